"""Train a model whenever data lands, compare it and have it approved. Wiring only; the work is in ``mlplatform``."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import Param, TaskGroup, TriggerRule, chain, dag, task

from mlplatform.config import loading
from mlplatform.config.loading import load_settings, model_names
from mlplatform.orchestration import callbacks, notifications
from mlplatform.orchestration.assets import APPROVED_MODELS
from mlplatform.orchestration.dag_runs import is_active
from mlplatform.orchestration.defaults import default_args
from mlplatform.orchestration.hitl import FORM, ApproveInAirflowOrMlflow
from mlplatform.orchestration.jobs import training_operator
from mlplatform.orchestration.pod_options import step_arguments, step_options
from mlplatform.orchestration.pods import StepPodOperator
from mlplatform.orchestration.retries import fail_without_retry
from mlplatform.orchestration.sensors import LandingSensor
from mlplatform.training import approvals, inputs, placement, registration, request, trials

SETTINGS = load_settings()
ORCHESTRATION, TRAINING = SETTINGS.orchestration, SETTINGS.training
LONGEST_HOURS = ORCHESTRATION.landing_timeout_hours + ORCHESTRATION.run_timeout_hours + SETTINGS.approval.deadline_hours

PREFIX = "{{ ti.xcom_pull(task_ids='ingest.resolve_inputs', key='prefix') }}"
QUESTION = "ti.xcom_pull(task_ids='promotion.decide', key='question')"
RUN_KEY = "{{ ti.xcom_pull(task_ids='ingest.resolve_inputs', key='run_key') }}"

DOC = """
### Train, compare and approve a model

Waits for data in the landing bucket, validates and prepares it, trains several trials in pods (with a GPU where the
model family can use one), registers the best one, scores it and the live model (the *champion*) on the same held-out
rows. If the gate lets it pass, it is approved: by the policy, or by a person who is asked here. The approval starts
*Deploy model*. What is live stays live in every other case.

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

PARAMS = {
    "dataset": Param(
        TRAINING.dataset,
        enum=model_names(),
        description="What to train a model for: a file in config/models.",
    ),
    "family": Param(
        TRAINING.family,
        enum=loading.family_names(),
        description="Model family: a file in config/families that the dataset's configuration has under `families`.",
    ),
    "trials": Param(
        TRAINING.trials,
        type="integer",
        minimum=1,
        maximum=TRAINING.search.maximum_trials,
        description="How many points of the search space to try; a grid with more points than that is refused.",
    ),
    "search": Param(
        TRAINING.search.method,
        enum=["grid", "random", "bayesian"],
        description="How the points are chosen: all combinations, drawn by chance, or learning from earlier trials.",
    ),
    "device": Param(
        TRAINING.device,
        enum=["auto", "cpu", "cuda"],
        description="What to train on; `auto` is a GPU for the families that can use one, where there are any.",
    ),
    "seed": Param(TRAINING.seed, type="integer", description="Of the search and of training; equal seeds, equal run."),
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
        description="Instead of policy.comparison of the dataset, for this run only: how much better than the champion "
        "the model must be; below 0, how much worse it may be.",
    ),
    "ask_a_person": Param(
        False,
        type="boolean",
        description="Have a person approve what passes the gate, also where the policy asks nobody.",
    ),
}


@fail_without_retry
def check_request(context: Any) -> None:
    """Refuse parameters that the configuration cannot satisfy before anything waits or runs."""
    request.check_request(SETTINGS, context["params"])


def awaited_key(params: Any) -> str:
    """S3 pattern of the files a run waits for."""
    return inputs.awaited_key(SETTINGS, params)


def place(params: Any) -> dict[str, Any]:
    """Image of a run's training pods, and whether they get GPUs."""
    return placement.of_params(SETTINGS, params)


def _said(ti: Any) -> str:
    answer = ti.xcom_pull(task_ids="approval.record_approval", key="answer")
    message = f"{answer['outcome']} by {answer['by']}: {answer['reason']}"
    print(message)
    return message


@dag(
    dag_id="train_model",
    dag_display_name="Train model",
    description="Data lands, a model is trained, compared with the live one, and approved if it is better.",
    doc_md=DOC,
    schedule=ORCHESTRATION.schedule,
    catchup=False,
    max_active_runs=ORCHESTRATION.max_active_runs,
    dagrun_timeout=timedelta(hours=LONGEST_HOURS),
    tags=["ml-platform", "training", SETTINGS.environment],
    params=PARAMS,
    user_defined_macros={"awaited_key": awaited_key, "placement": place},
    on_failure_callback=callbacks.run_failed,
    default_args=default_args(SETTINGS, callbacks.task_failed),
)
def train_model() -> None:
    """Wire the pipeline."""
    with TaskGroup("ingest", tooltip="What is there to train on?"):
        wait_for_data = LandingSensor(
            task_id="wait_for_data",
            bucket_key="{{ awaited_key(params) }}",
            wildcard_match=True,
            aws_conn_id="aws_default",
            region_name=SETTINGS.aws.region,
            deferrable=True,
            poke_interval=ORCHESTRATION.poll_seconds,
            timeout=timedelta(hours=ORCHESTRATION.landing_timeout_hours),
            execution_timeout=timedelta(hours=ORCHESTRATION.landing_timeout_hours, minutes=15),
            pre_execute=check_request,
            doc_md="Waits for a file of the dataset's trigger table, without a worker; skips the run if none comes.",
        )

        @task.branch(
            doc_md="Fixes the input files and their versions, claims the run, and stops if it was done before."
        )
        @fail_without_retry
        def resolve_inputs(params: Any = None, ti: Any = None, run_id: Any = None) -> list[str]:
            live = partial(is_active, ti, "train_model")
            resolved = inputs.resolve_inputs(SETTINGS, params, run_id, live)
            ti.xcom_push(key="prefix", value=resolved.paths.prefix)
            ti.xcom_push(key="run_key", value=resolved.paths.prefix.rsplit("/", 1)[-1])
            ti.xcom_push(key="message", value=resolved.message)
            print(resolved.message)
            return ["data.validate", "data.settle_landing"] if resolved.granted else ["nothing_to_do"]

        resolved = resolve_inputs()

    with TaskGroup("data", tooltip="Is it good, and ready to train on?"):
        validate = StepPodOperator(
            task_id="validate",
            arguments=step_arguments("validate", f"{PREFIX}/config.json", PREFIX, f"{PREFIX}/validate"),
            doc_md="Checks every file against the dataset's schema; a bad one ends the run with its name and column.",
            **step_options(SETTINGS, "validate", RUN_KEY),
        )

        @task(
            trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
            doc_md="Accepts validated files; moves refused ones to quarantine with the reason beside them.",
        )
        @fail_without_retry
        def settle_landing(prefix: str) -> str:
            return inputs.settle_landing(SETTINGS, prefix)

        settled = settle_landing(PREFIX)
        prepare = StepPodOperator(
            task_id="prepare",
            arguments=step_arguments("prepare", f"{PREFIX}/config.json", PREFIX, f"{PREFIX}/prepare"),
            doc_md="Joins the tables into examples and splits them into training, validation and test rows.",
            **step_options(SETTINGS, "prepare", RUN_KEY),
        )

    with TaskGroup("training", tooltip="Which model is the best one?"):

        @task(doc_md="Chooses the trials from the family's search space and writes the configurations of their pods.")
        @fail_without_retry
        def generate_trials(prefix: str, params: Any = None) -> list[list[str]]:
            return trials.generate_trials(SETTINGS, prefix, params["trials"])

        planned = generate_trials(PREFIX)
        operator, options = training_operator(SETTINGS, RUN_KEY)  # a pod for each task, or a job of several
        train = operator.partial(
            task_id="train",
            max_active_tis_per_dagrun=TRAINING.parallel_pods,
            map_index_template="pod {{ ti.map_index }}"
            if TRAINING.search.trials_per_pod > 1
            else "trial {{ ti.map_index }}",
            doc_md="One pod's trials: each fits a model on the training rows and scores it on the validation rows.",
            **options,
        ).expand(arguments=planned)

        @task(
            trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
            doc_md="Picks the trial with the best validation metric; goes on without failed ones if enough did well.",
        )
        @fail_without_retry
        def select_best(prefix: str, ti: Any = None) -> dict[str, Any]:
            generated = ti.xcom_pull(task_ids="training.generate_trials") or []
            return trials.select_best(SETTINGS, prefix, len(generated))

        selected = select_best(PREFIX)

    with TaskGroup("promotion", tooltip="Is it better than what is live?"):

        @task(doc_md="Makes the best trial a version in the model registry, with its lineage, as `challenger`.")
        @fail_without_retry
        def register(prefix: str) -> dict[str, str]:
            return registration.register(SETTINGS, prefix)

        registered = register(PREFIX)
        evaluate = StepPodOperator(
            task_id="evaluate",
            arguments=step_arguments(
                "evaluate", f"{PREFIX}/evaluate/config.json", f"{PREFIX}/prepare", f"{PREFIX}/evaluate"
            ),
            doc_md="Scores the candidate and the champion on the same held-out rows, in one process.",
            **step_options(SETTINGS, "evaluate", RUN_KEY),
        )

        @task.branch(doc_md="The gate: compares both scores with the policy and says why.")
        @fail_without_retry
        def decide(prefix: str, ti: Any = None) -> str:
            decision = registration.decide(SETTINGS, prefix)
            ti.xcom_push(key="decision", value=decision.model_dump(mode="json"))
            if decision.outcome == "needs-approval":
                ti.xcom_push(key="question", value=approvals.ask(SETTINGS, prefix))
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
            return approvals.approve_automatically(SETTINGS, prefix).model_dump(mode="json")

        approved = approve_automatically(PREFIX)
        ask = ApproveInAirflowOrMlflow(
            task_id="ask",
            settings=SETTINGS,
            prefix=PREFIX,
            params=FORM,
            subject=f"{{{{ {QUESTION}['subject'] }}}}",
            body=f"{{{{ {QUESTION}['body'] }}}}",
            doc_md="Waits, without a worker, for a person to answer here or in MLflow; no answer in time is one too.",
        )

        @task.branch(
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            doc_md="Verifies that the answer still holds, and writes it down: the first one counts.",
        )
        @fail_without_retry
        def record_approval(prefix: str, ti: Any = None, run_id: Any = None) -> str:
            given = ti.xcom_pull(task_ids="approval.approve_automatically") or ti.xcom_pull(task_ids="approval.ask")
            held = approvals.record_approval(SETTINGS, prefix, given, f"train_model/{run_id}")
            ti.xcom_push(key="answer", value=held.answer.model_dump(mode="json"))
            if held.answer.outcome == "approved":
                ti.xcom_push(key="model", value=held.approved_model().model_dump(mode="json"))
            return {"approved": "approval.publish", "rejected": "approval.reject", "expired": "approval.expire"}[
                held.answer.outcome
            ]

        recorded = record_approval(PREFIX)

        @task(outlets=[APPROVED_MODELS], doc_md="Raises the event that starts `deploy_model`.")
        def publish(ti: Any = None, outlet_events: Any = None) -> None:
            outlet_events[APPROVED_MODELS].extra = ti.xcom_pull(task_ids="approval.record_approval", key="model")

        @task(doc_md="A person said no. What is live stays live.")
        def reject(ti: Any = None) -> str:
            return _said(ti)

        @task(doc_md="Nobody answered in time. What is live stays live; clear `approval.ask` to ask again.")
        def expire(ti: Any = None) -> str:
            return _said(ti)

        ways = [publish(), reject(), expire()]

    @task(doc_md="The same data, configuration and images were done before, or are being done by another run.")
    def nothing_to_do(ti: Any = None) -> str:
        message = str(ti.xcom_pull(task_ids="ingest.resolve_inputs", key="message"))
        print(message)
        return message

    idle = nothing_to_do()

    @task(
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        doc_md="Closes the run's record and tells people: approved, rejected and why, expired, or nothing to do.",
    )
    @fail_without_retry
    def notify(prefix: str, ti: Any = None, run_id: Any = None) -> str:
        answer = ti.xcom_pull(task_ids="approval.record_approval", key="answer")
        message = approvals.conclude(SETTINGS, prefix, run_id, ti.xcom_pull(task_ids="nothing_to_do"), answer)
        notifications.send(SETTINGS, message)
        return message.text

    chain(wait_for_data, resolved, validate, settled, prepare, planned, train, selected, registered, evaluate, decided)
    validate >> prepare
    # These two run even if all pods before them failed, but not if there were none: hence one sure success upstream.
    resolved >> settled
    planned >> selected
    chain(decided, [approved, ask], recorded, ways, notified := notify(PREFIX))
    chain(decided, skipped, notified)
    chain(resolved, idle, notified)


train_model()
