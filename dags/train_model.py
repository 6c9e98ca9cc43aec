"""Train a model whenever data lands, compare it and have it approved: a DAG for each dataset.

Wiring only; the work is in ``mlplatform``.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import Param, TaskGroup, TriggerRule, chain, dag, task

from mlplatform.config.loading import Dataset, default_family
from mlplatform.config.names import dag_id, owner_of_run, training_pool
from mlplatform.config.pools import training_slots
from mlplatform.orchestration import callbacks, datasets, notifications, turns
from mlplatform.orchestration.assets import approved_models
from mlplatform.orchestration.dag_runs import is_active
from mlplatform.orchestration.defaults import dag_options, default_args, give_params
from mlplatform.orchestration.hitl import FORM, ApproveInAirflowOrMlflow
from mlplatform.orchestration.jobs import training_operator
from mlplatform.orchestration.pod_options import step_arguments, step_options
from mlplatform.orchestration.pods import StepPodOperator
from mlplatform.orchestration.retries import fail_without_retry
from mlplatform.orchestration.sensors import LandingSensor
from mlplatform.training import approvals, inputs, placement, registration, request, trials

PREFIX = "{{ ti.xcom_pull(task_ids='ingest.resolve_inputs', key='prefix') }}"
QUESTION = "ti.xcom_pull(task_ids='promotion.decide', key='question')"
LOST_LOOKS = 50
"""So many looks whether it is a run's turn may be lost, to a scheduler that is slow or was killed, before it fails."""
RUN_KEY = "{{ ti.xcom_pull(task_ids='ingest.resolve_inputs', key='run_key') }}"

DOC = """
### Train, compare and approve a model

Waits for data in the landing bucket, validates and prepares it, trains several trials in pods (with a GPU where the
model family can use one), registers the best one, scores it and the live model (the *champion*) on the same held-out
rows. If the gate lets it pass, it is approved: by the policy, or by a person who is asked here. The approval starts
the dataset's DAG `deploy__…`. What is live stays live in every other case.

At work is one run at a time. What waits, for data, for its turn or for a person, holds up nothing; a question that
waits ends as *superseded* when another candidate passes the gate.

| You want to | Do |
|---|---|
| train when new data is there | trigger with the defaults |
| train again on the data already accepted | `wait_for_new_data` off, and another `seed` or other parameters |
| try another kind of model, or search more | `family`, `search` and `trials`; config/families says what is searched |
| train without a GPU, or only with one | `device` `cpu` or `cuda` |
| see all trials of a run beside one another | MLflow: the run `search-<run key>` in the dataset's experiment |
| see how good the data is, or the model | button *Report* of `data.validate` or `promotion.evaluate` |
| approve or reject a model | *Required actions* of the task `approval.ask`; docs/approval.md |
| know why a model was not deployed | log of `promotion.decide`, or `decision.json` under the run's prefix |
| know why files were refused | log of `data.validate`, or `quarantine/` in the landing bucket |
| try a failed run again | clear the failed task: steps with a result are not done again |

A run on the same data, configuration and images as a finished one does nothing and says so (`nothing_to_do`).
All documents of a run are under `s3://<data>/runs/<dataset>/<run key>/`; the log of `ingest.resolve_inputs` names it.
"""


def form(dataset: Dataset) -> dict[str, Param]:
    """Return the parameters of a run."""
    training = dataset.settings.training
    return {
        "family": Param(
            default_family(dataset),
            enum=sorted(dataset.model.families),
            description="Model family: a file in config/families that the dataset's has under `families`.",
        ),
        "trials": Param(
            training.trials,
            type="integer",
            minimum=1,
            maximum=training.search.maximum_trials,
            description="How many points of the search space to try; a grid with more points than that is refused.",
        ),
        "search": Param(
            training.search.method,
            enum=["grid", "random", "bayesian"],
            description="How the points are chosen: all combinations, by chance, or learning from earlier trials.",
        ),
        "device": Param(
            training.device,
            enum=["auto", "cpu", "cuda"],
            description="What to train on; `auto` is a GPU for the families that can use one, where there are any.",
        ),
        "seed": Param(
            training.seed, type="integer", description="Of the search and of training; equal seeds, equal run."
        ),
        "wait_for_new_data": Param(
            True,
            type="boolean",
            description="Wait for a file in the landing bucket; off: train on what has been accepted so far.",
        ),
        "minimum_quality": Param(
            None,
            type=["null", "number"],
            description="Instead of policy.minimum_quality of the dataset, for this run only.",
        ),
        "minimum_improvement": Param(
            None,
            type=["null", "number"],
            description="Instead of policy.comparison of the dataset, for this run only: how much better than the "
            "champion the model must be; below 0, how much worse it may be.",
        ),
        "ask_a_person": Param(
            False,
            type="boolean",
            description="Have a person approve what passes the gate, also where the policy asks nobody.",
        ),
    }


def _said(ti: Any) -> str:
    answer = ti.xcom_pull(task_ids="approval.record_approval", key="answer")
    message = f"{answer['outcome']} by {answer['by']}: {answer['reason']}"
    print(message)
    return message


def train(dataset: Dataset) -> None:
    """Make the DAG of a dataset."""
    settings, this, model_approved = dataset.settings, dag_id("train", dataset.name), approved_models(dataset.name)
    orchestration, training = settings.orchestration, settings.training
    longest = orchestration.landing_timeout_hours + orchestration.run_timeout_hours + settings.approval.deadline_hours
    at_work = turns.in_turn(dataset)

    def of_dataset(params: Any) -> dict[str, Any]:
        return {**params, "dataset": dataset.name}

    @fail_without_retry
    def check_request(context: Any) -> None:
        """Refuse parameters that the configuration cannot satisfy before anything waits or runs."""
        request.check_request(settings, of_dataset(context["params"]))

    # Templates are rendered before `check_request` runs, so parameters are refused here already.
    @fail_without_retry
    def awaited_key(params: Any) -> str:
        """S3 pattern of the files a run waits for."""
        return inputs.awaited_key(settings, of_dataset(params))

    def place(params: Any) -> dict[str, Any]:
        """Image of a run's training pods, and whether they get GPUs."""
        return placement.of_params(settings, params)

    def give_turn_back(context: Any) -> None:
        turns.give_back(dataset, this, context["run_id"])

    @dag(
        dag_id=this,
        dag_display_name=f"Train {dataset.name}",
        description="Data lands, a model is trained, compared with the live one, and approved if it is better.",
        doc_md=DOC,
        schedule=orchestration.schedule,
        max_active_runs=orchestration.max_active_runs,
        dagrun_timeout=timedelta(hours=longest),
        user_defined_macros={"awaited_key": awaited_key, "placement": place},
        on_failure_callback=callbacks.run_failed,
        default_args=default_args(dataset, callbacks.task_failed),
        **dag_options(dataset, "training"),
    )
    def train_model() -> None:
        """Wire the pipeline."""
        with TaskGroup("ingest", tooltip="What is there to train on?"):
            wait_for_data = LandingSensor(
                task_id="wait_for_data",
                bucket_key="{{ awaited_key(params) }}",
                wildcard_match=True,
                aws_conn_id="aws_default",
                region_name=settings.aws.region,
                deferrable=True,
                poke_interval=orchestration.poll_seconds,
                timeout=timedelta(hours=orchestration.landing_timeout_hours),
                execution_timeout=timedelta(hours=orchestration.landing_timeout_hours, minutes=15),
                pre_execute=check_request,
                doc_md="Waits for a file of the dataset's trigger table, without a worker; skips the run if none does.",
            )

            @task.sensor(
                # A scheduler that hears of one look after it has queued the next takes the next for a lost task, which
                # costs a try: it hears in time unless it was held up for this long.
                poke_interval=max(orchestration.poll_seconds, 5),
                retries=max(orchestration.retries, LOST_LOOKS),
                timeout=timedelta(hours=orchestration.run_timeout_hours).total_seconds(),
                mode="reschedule",
                doc_md="Waits, without a worker, until no other run of the dataset is at work.",
            )
            def take_turn(ti: Any = None, run_id: Any = None) -> bool:
                if holder := turns.whose_turn(dataset, ti, run_id):
                    print(f"waiting: at work is {holder}")
                return holder is None

            turn = take_turn()

            @task.branch(
                pre_execute=at_work,
                doc_md="Fixes the input files and their versions, claims the run, and stops if it was done before.",
            )
            @fail_without_retry
            def resolve_inputs(params: Any = None, ti: Any = None, run_id: Any = None) -> list[str]:
                live = partial(is_active, ti)
                resolved = inputs.resolve_inputs(settings, of_dataset(params), owner_of_run(this, run_id), live)
                ti.xcom_push(key="prefix", value=resolved.paths.prefix)
                ti.xcom_push(key="run_key", value=resolved.paths.prefix.rsplit("/", 1)[-1])
                ti.xcom_push(key="message", value=resolved.message)
                print(resolved.message)
                return ["data.validate", "data.settle_landing"] if resolved.granted else ["nothing_to_do"]

            resolved = resolve_inputs()

        with TaskGroup("data", tooltip="Is it good, and ready to train on?", default_args={"pre_execute": at_work}):
            validate = StepPodOperator(
                task_id="validate",
                arguments=step_arguments("validate", f"{PREFIX}/config.json", PREFIX, f"{PREFIX}/validate"),
                doc_md="Checks every file against the dataset's schema; a bad one ends the run, by name and column.",
                **step_options(dataset, "validate", RUN_KEY),
            )

            @task(
                trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
                doc_md="Accepts validated files; moves refused ones to quarantine with the reason beside them.",
            )
            @fail_without_retry
            def settle_landing(prefix: str) -> str:
                return inputs.settle_landing(settings, prefix)

            settled = settle_landing(PREFIX)
            prepare = StepPodOperator(
                task_id="prepare",
                arguments=step_arguments("prepare", f"{PREFIX}/config.json", PREFIX, f"{PREFIX}/prepare"),
                doc_md="Joins the tables into examples and splits them into training, validation and test rows.",
                **step_options(dataset, "prepare", RUN_KEY),
            )

        with TaskGroup("training", tooltip="Which model is the best one?", default_args={"pre_execute": at_work}):

            @task(
                doc_md="Chooses the trials from the family's search space and writes the configurations of their pods."
            )
            @fail_without_retry
            def generate_trials(prefix: str, params: Any = None) -> list[list[str]]:
                return trials.generate_trials(settings, prefix, params["trials"])

            planned = generate_trials(PREFIX)
            operator, options = training_operator(dataset, RUN_KEY)  # a pod for each task, or a job of several
            train = operator.partial(
                task_id="train",
                pool=training_pool(dataset.name),
                pool_slots=training_slots(settings),
                map_index_template="pod {{ ti.map_index }}"
                if training.search.trials_per_pod > 1
                else "trial {{ ti.map_index }}",
                doc_md="One pod's trials: each fits a model on the training rows and scores it on the validation rows.",
                **options,
            ).expand(arguments=planned)

            @task(
                trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
                doc_md="Picks the trial with the best validation metric; goes on without failed ones if enough did.",
            )
            @fail_without_retry
            def select_best(prefix: str, ti: Any = None) -> dict[str, Any]:
                generated = ti.xcom_pull(task_ids="training.generate_trials") or []
                return trials.select_best(settings, prefix, len(generated))

            selected = select_best(PREFIX)

        with TaskGroup("promotion", tooltip="Is it better than what is live?", default_args={"pre_execute": at_work}):

            @task(doc_md="Makes the best trial a version in the model registry, with its lineage, as `challenger`.")
            @fail_without_retry
            def register(prefix: str) -> dict[str, str]:
                return registration.register(settings, prefix)

            registered = register(PREFIX)
            evaluate = StepPodOperator(
                task_id="evaluate",
                arguments=step_arguments(
                    "evaluate", f"{PREFIX}/evaluate/config.json", f"{PREFIX}/prepare", f"{PREFIX}/evaluate"
                ),
                doc_md="Scores the candidate and the champion on the same held-out rows, in one process.",
                **step_options(dataset, "evaluate", RUN_KEY),
            )

            @task.branch(doc_md="The gate: compares both scores with the policy and says why.")
            @fail_without_retry
            def decide(prefix: str, ti: Any = None) -> str:
                decision = registration.decide(settings, prefix)
                ti.xcom_push(key="decision", value=decision.model_dump(mode="json"))
                if decision.outcome == "needs-approval":
                    ti.xcom_push(key="question", value=approvals.ask(settings, prefix))
                return {
                    "promote": "approval.approve_automatically",
                    "needs-approval": "approval.ask",
                    "reject": "promotion.skip_deployment",
                }[decision.outcome]

            decided = decide(PREFIX)

            @task(doc_md="The candidate was not good enough; the log says why. What is live stays live.")
            def skip_deployment(ti: Any = None) -> list[str]:
                decision = ti.xcom_pull(task_ids="promotion.decide", key="decision")
                print("rejected: " + "; ".join(decision["reasons"]))
                return list(decision["reasons"])

            skipped = skip_deployment()

        with TaskGroup("approval", tooltip="Who says that it may be deployed?"):

            @task(doc_md="The policy asks nobody: what passed the gate is approved.")
            @fail_without_retry
            def approve_automatically(prefix: str) -> dict[str, Any]:
                return approvals.approve_automatically(settings, prefix).model_dump(mode="json")

            approved = approve_automatically(PREFIX)
            ask = ApproveInAirflowOrMlflow(
                task_id="ask",
                settings=settings,
                prefix=PREFIX,
                params=FORM,
                pre_execute=give_turn_back,  # a person may take days
                subject=f"{{{{ {QUESTION}['subject'] }}}}",
                body=f"{{{{ {QUESTION}['body'] }}}}",
                doc_md="Waits, without a worker, for a person to answer here or in MLflow; no answer in time is one.",
            )

            @task.branch(
                trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
                doc_md="Verifies that the answer still holds, and writes it down: the first one counts.",
            )
            @fail_without_retry
            def record_approval(prefix: str, ti: Any = None, run_id: Any = None) -> str:
                given = ti.xcom_pull(task_ids="approval.approve_automatically") or ti.xcom_pull(task_ids="approval.ask")
                held = approvals.record_approval(settings, prefix, given, owner_of_run(this, run_id))
                ti.xcom_push(key="answer", value=held.answer.model_dump(mode="json"))
                if held.answer.outcome == "approved":
                    ti.xcom_push(key="model", value=held.approved_model().model_dump(mode="json"))
                return {
                    "approved": "approval.publish",
                    "rejected": "approval.reject",
                    "expired": "approval.expire",
                    "superseded": "approval.supersede",
                }[held.answer.outcome]

            recorded = record_approval(PREFIX)

            @task(outlets=[model_approved], doc_md="Raises the event that starts the deployment.")
            def publish(ti: Any = None, outlet_events: Any = None) -> None:
                outlet_events[model_approved].extra = ti.xcom_pull(task_ids="approval.record_approval", key="model")

            @task(doc_md="A person said no. What is live stays live.")
            def reject(ti: Any = None) -> str:
                return _said(ti)

            @task(doc_md="Nobody answered in time. What is live stays live; clear `approval.ask` to ask again.")
            def expire(ti: Any = None) -> str:
                return _said(ti)

            @task(
                doc_md="Another candidate passed the gate meanwhile. What is live stays live; that one is asked about."
            )
            def supersede(ti: Any = None) -> str:
                return _said(ti)

            ways = [publish(), reject(), expire(), supersede()]

        @task(doc_md="The same data, configuration and images were done before, or are being done by another run.")
        def nothing_to_do(ti: Any = None) -> str:
            message = str(ti.xcom_pull(task_ids="ingest.resolve_inputs", key="message"))
            print(message)
            return message

        idle = nothing_to_do()

        @task(
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            doc_md="Closes the run's record and tells people: approved, rejected, expired, superseded or nothing done.",
        )
        @fail_without_retry
        def notify(prefix: str, ti: Any = None, run_id: Any = None) -> str:
            answer = ti.xcom_pull(task_ids="approval.record_approval", key="answer")
            message = approvals.conclude(
                settings, prefix, owner_of_run(this, run_id), ti.xcom_pull(task_ids="nothing_to_do"), answer
            )
            turns.give_back(dataset, this, run_id)
            notifications.send(settings, message)
            return message.text

        chain(
            wait_for_data,
            turn,
            resolved,
            validate,
            settled,
            prepare,
            planned,
            train,
            selected,
            registered,
            evaluate,
            decided,
        )
        validate >> prepare
        # These two run even if all pods before them failed, but not if there were none: hence a sure success upstream.
        resolved >> settled
        planned >> selected
        chain(decided, [approved, ask], recorded, ways, notified := notify(PREFIX))
        chain(decided, skipped, notified)
        chain(resolved, idle, notified)

    give_params(train_model(), form(dataset))


for each in datasets.to_make("train"):
    train(each)
