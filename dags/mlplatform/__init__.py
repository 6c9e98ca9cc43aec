"""The library behind the DAGs and the container steps, in packages by subject.

From the ground up; nothing imports upwards, and only `orchestration` imports Airflow:

1. `errors`, `storage`, `config`: what people write.
2. `documents`: what machines keep.
3. `steps`: the contract of container steps; `people`: what is said to people.
4. `ingest`, `promotion`: landing files; gate, approval, registry, audit log.
5. `training`, `deployment`, `monitoring`: what the tasks of the DAGs do.
6. `orchestration`: operators, sensors, callbacks, task groups.
"""
