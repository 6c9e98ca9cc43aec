"""Configuration: what people choose, checked before anything runs. No Airflow import.

Three sources make the settings of an environment, later ones winning key by key:

1. ``config/base.yaml``: what all environments share;
2. ``config/<environment>.yaml``: what differs by choice (sizes, schedules, thresholds);
3. ``platform.json``: what differs by fact (names, ARNs, addresses), written by whatever made the
   platform (Terraform in the cloud, the local platform on one machine).

``config/models/<dataset>.yaml`` describes one prediction task: its data, features, split, metric,
model families and promotion policy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

# The folder that holds ``config/`` and ``platform.json``: in Airflow, the DAG bundle itself.
BUNDLE = Path(__file__).parent.parent

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
# Folders of the landing bucket beside the datasets': late labels, and refused files.
RESERVED_NAMES = ("labels", "quarantine")
ColumnType = Literal["integer", "number", "string", "boolean", "timestamp"]
TaskKind = Literal["binary", "multiclass", "regression"]
Metric = Literal["roc_auc", "average_precision", "log_loss", "brier_score", "accuracy", "macro_f1", "rmse", "mae", "r2"]
METRICS: Mapping[TaskKind, tuple[Metric, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier_score", "accuracy"),
    "multiclass": ("log_loss", "accuracy", "macro_f1", "roc_auc"),
    "regression": ("rmse", "mae", "r2"),
}
"""Which metrics each kind of task has; ``roc_auc`` of several classes is the mean of one against the rest."""
LOWER_IS_BETTER: frozenset[str] = frozenset({"log_loss", "brier_score", "rmse", "mae"})
Device = Literal["auto", "cpu", "cuda"]
Severity = Literal["warn", "fail"]


class ConfigError(ValueError):
    """A configuration file is wrong; the message names the file, the key and what is allowed."""


class Strict(BaseModel):
    """Base of every schema here: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- How a model is judged: see mlplatform.gate and docs/promotion.md -------------------------

ApprovalKind = Literal["automatic", "manual"]
Tolerance = Literal["allow", "reject"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Beyond 99 % the bounds hang on a handful of the thousand resamples.
Level = Annotated[float, Field(ge=0.8, le=0.99)]
MINIMUM_SLICE_ROWS = 50
"""The evaluation scores no category with fewer held-out rows."""


class Comparison(Strict):
    """How a candidate must compare with the champion on the same held-out rows."""

    kind: Literal["improvement", "non-inferiority"] = Field(
        default="improvement",
        description="`improvement`: better by at least the margin. `non-inferiority`: at most the margin worse.",
    )
    margin: NotNegative = Field(default=0.0, description="In the metric's unit. An improvement of 0 is still above 0.")
    judged_on: Literal["interval", "point"] = Field(
        default="interval",
        description="`interval`: the whole confidence interval must be beyond the margin. `point`: the difference "
        "itself, however much of it is chance.",
    )
    level: Level = Field(
        default=0.95, description="Of the interval, two-sided: chance promotes wrongly in at most half of the rest."
    )
    minimum_rows: Annotated[int, Field(ge=2)] = Field(default=100, description="Of fewer held-out rows none is judged.")

    @property
    def bound(self) -> float:
        """What the improvement must at least be, in the metric's unit; negative where a loss is allowed."""
        return self.margin if self.kind == "improvement" else -self.margin


class ColdStart(Strict):
    """The first model of a dataset, that has no champion to be compared with."""

    minimum_quality: Finite | None = Field(default=None, description="Instead of the policy's own.")
    approval: ApprovalKind = "manual"
    minimum_rows: Annotated[int, Field(ge=1)] = Field(default=50, description="Of fewer held-out rows none is judged.")


class SliceLimits(Strict):
    """No category of the dataset's `slices` may get worse than allowed, as far as noise can be told from loss."""

    maximum_loss: NotNegative | None = Field(
        default=None,
        description="Against the champion, in the metric's unit; else what non-inferiority allows the whole, or 0.",
    )
    level: Level = Field(
        default=0.95, description="Chance that a model as good as the champion is blocked by none of its categories."
    )
    minimum_rows: Annotated[int, Field(ge=MINIMUM_SLICE_ROWS)] = Field(
        default=MINIMUM_SLICE_ROWS, description="Categories with fewer held-out rows are not judged."
    )


class CalibrationLimit(Strict):
    """Of binary tasks: how far predicted probabilities may be from what happens."""

    maximum_error: Annotated[float, Field(gt=0, lt=1)] = 0.15


class LatencyLimits(Strict):
    """How long a prediction may take within the evaluation's process, without network or server."""

    maximum_single_ms: Positive = Field(default=100, description="For one row alone.")
    maximum_batch_ms: Positive = Field(default=5, description="Per row, of 1,000 at once.")


class DataQuality(Strict):
    """What becomes of a model whose data passed validation with warnings."""

    warnings: Tolerance = "allow"
    drift: Tolerance = Field(default="allow", description="Of warnings about drift, which do not count as others.")


class Guards(Strict):
    """What a policy has a default for, and an environment may say for all datasets; None leaves a guard out."""

    approval: ApprovalKind = Field(
        default="manual", description="Whether a person must agree once all guards have passed, with a champion."
    )
    comparison: Comparison = Comparison()
    cold_start: ColdStart = ColdStart()
    slices: SliceLimits | None = SliceLimits()
    calibration: CalibrationLimit | None = CalibrationLimit()
    latency: LatencyLimits | None = LatencyLimits()
    maximum_model_mib: Positive | None = Field(default=512, description="Size of the saved model's files.")
    data_quality: DataQuality = DataQuality()


class Policy(Guards):
    """When a candidate may replace the champion."""

    minimum_quality: Finite = Field(description="The candidate's metric on held-out data must be at least this good.")

    @property
    def maximum_slice_loss(self) -> float:
        """What a category may lose against the champion, in the metric's unit."""
        if self.slices is not None and self.slices.maximum_loss is not None:
            return self.slices.maximum_loss
        return max(0.0, -self.comparison.bound)

    def check(self, metric: str) -> None:
        """Refuse what contradicts itself, or what no model can pass.

        Raises:
            ValueError: the message begins with the key.
        """
        lower = metric in LOWER_IS_BETTER
        best, beyond = (0.0, "below") if lower else (1.0, "above")
        first = self.cold_start.minimum_quality
        for key, value in (("minimum_quality", self.minimum_quality), ("cold_start.minimum_quality", first)):
            if value is not None and (value < best if lower else value > best):
                raise ValueError(f"{key}: no model can pass: {metric} is never {beyond} {best:g} (got {value:g})")
        if first is not None and (first > self.minimum_quality if lower else first < self.minimum_quality):
            raise ValueError(
                f"cold_start.minimum_quality: a first model of {first:g} would not be as good as minimum_quality "
                f"({self.minimum_quality:g}) asks of every later one"
            )
        room = abs(best - self.minimum_quality)
        if self.comparison.bound > room:
            raise ValueError(
                f"comparison.margin: no model can pass: {metric} is never {beyond} {best:g}, so nothing is better by "
                f"{self.comparison.margin:g} than a champion of minimum_quality ({self.minimum_quality:g})"
            )
        if self.slices is not None and self.maximum_slice_loss < -self.comparison.bound:
            raise ValueError(
                f"slices.maximum_loss: {self.maximum_slice_loss:g} allows a category less than comparison.margin "
                f"({self.comparison.margin:g}) allows the whole"
            )
        if self.cold_start.approval == "automatic" and self.approval == "manual":
            raise ValueError(
                "cold_start.approval: automatic, while approval is manual: the model with nothing to compare with "
                "would be the only one that nobody looks at"
            )


# --- Settings of an environment ---------------------------------------------------------------


class Aws(Strict):
    """Where in AWS."""

    region: str
    account_id: Annotated[str, Field(pattern=r"^\d{12}$")]


class Buckets(Strict):
    """Names of the buckets."""

    landing: str
    data: str
    artifacts: str


class Toleration(Strict):
    """A toleration, as Kubernetes writes it."""

    key: str
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class NodePool(Strict):
    """Where pods of a pool may run."""

    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []


class Kubernetes(Strict):
    """The cluster that runs the steps."""

    kubeconfig: str = Field(description="Path of the kubeconfig; a relative one is inside the DAG bundle.")
    context: str | None = None
    training_namespace: str
    deployment_namespace: str
    node_pools: dict[str, NodePool]


class Images(Strict):
    """Image references by digest or immutable tag; they are part of the run key."""

    trainer: str
    trainer_cuda: str
    deployer: str
    serving: str


class Mlflow(Strict):
    """The tracking server and model registry."""

    tracking_uri: str


class Rollout(Strict):
    """How requests move from the live model to a new one; see docs/deployment.md."""

    strategy: Literal["all-at-once", "canary", "linear"] = Field(
        default="all-at-once", description="The other two need two instances, and else become this one."
    )
    canary_percent: Annotated[int, Field(ge=1, le=50)] = Field(
        default=10, description="Share of the instances that a canary is, at least one of them."
    )
    step_percent: Annotated[int, Field(ge=10, le=50)] = Field(
        default=25, description="Share of the instances that a step of a linear rollout adds, at least one of them."
    )
    bake_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=300, description="How long the alarms are watched after each step; a red one rolls back."
    )
    maximum_seconds: Annotated[int, Field(ge=600, le=28800)] = Field(
        default=3600, description="SageMaker rolls back what takes longer."
    )


class Capture(Strict):
    """The sample of requests and answers that is kept."""

    percentage: Annotated[int, Field(ge=0, le=100)] = Field(default=10, description="Of the requests; 0 keeps none.")
    uri: str | None = Field(
        default=None,
        description="Where; `{dataset}` stands for the dataset's name. Else `capture/<endpoint>` in the data bucket.",
    )


class Vpc(Strict):
    """The network that a model's containers are attached to."""

    subnets: Annotated[list[str], Field(min_length=1)]
    security_groups: Annotated[list[str], Field(min_length=1)]


class Serving(Strict):
    """The endpoint and what it runs on."""

    endpoint_name: str = Field(description="Name of the endpoint; `{dataset}` stands for the dataset's name.")
    execution_role_arn: str
    instance_type: str
    instance_count: Annotated[int, Field(ge=1)]
    startup_timeout_seconds: Annotated[int, Field(ge=60, le=3600)] = 600
    kms_key_arn: str | None = Field(default=None, description="Encrypts captured data and the instances' volumes.")
    local_disk_types: str | None = Field(
        default=None,
        description="Regular expression of the instance types that encrypt their disks themselves: no key for these.",
    )
    capture: Capture = Capture()
    network_isolation: bool = Field(default=True, description="Whether a model's container is without any network.")
    vpc: Vpc | None = None
    alarms: dict[str, Annotated[list[str], Field(max_length=10)]] = Field(
        default={}, description="By dataset: names of the alarms that roll a deployment back."
    )
    rollout: Rollout = Rollout()
    kept_configurations: Annotated[int, Field(ge=1, le=100)] = Field(
        default=5, description="So many of an endpoint's newest configurations are kept, and their models."
    )


NotificationEvent = Literal[
    "approval-wanted",
    "approved",
    "rejected",
    "expired",
    "nothing-to-do",
    "deployed",
    "rolled-back",
    "failed",
    "monitoring",
]


class Slack(Strict):
    """A Slack channel, through an incoming webhook."""

    connection: str = Field(description="Airflow connection of the webhook; its address is a secret.")
    events: list[NotificationEvent]


class Email(Strict):
    """Mail through an SMTP server."""

    connection: str = Field(description="Airflow connection of the server; sender and password are in it.")
    recipients: Annotated[list[str], Field(min_length=1)]
    events: list[NotificationEvent]


class Notifications(Strict):
    """Who is told what; nowhere without a topic, a Slack channel or recipients. Secrets are in Airflow connections."""

    topic_arn: str | None = None
    topic_events: list[NotificationEvent] = Field(
        default=list(get_args(NotificationEvent)), description="What is published to the topic; all unless said."
    )
    slack: Slack | None = None
    email: Email | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        default=15, description="How long a message may take on each way; then it is given up."
    )


class Approver(Strict):
    """A person, as Airflow's sign-in knows them."""

    id: str
    name: str


class Approval(Strict):
    """How people approve what the gate leaves to them; see docs/approval.md."""

    deadline_hours: Annotated[float, Field(gt=0, le=168)] = Field(
        default=20, description="From the question on; without an answer until then the candidate is not deployed."
    )
    approvers: list[Approver] = Field(
        default=[], description="Who may answer; without any, everyone whose role in Airflow allows it."
    )
    from_mlflow: bool = Field(
        default=True,
        description="Whether tags on the model version answer too. Who may write tags can then sign with any name.",
    )
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=300, description="How often the tags are looked at while a person is waited for."
    )
    allow_force: bool = Field(
        default=False, description="Whether a version without approval may be deployed by hand, with a reason."
    )


class Step(Strict):
    """Resources and limits of one container step."""

    namespace: Literal["training", "deployment"] = "training"
    service_account: str
    node_pool: str = "cpu"
    cpu_node_pool: str | None = Field(
        default=None,
        description="Where a training runs that uses no GPU, without those of `gpus`; else in `node_pool`.",
    )
    priority_class: str | None = Field(
        default=None, description="A class of `config/kubernetes`; else the default one."
    )
    cpu: str
    memory: str
    gpus: Annotated[int, Field(ge=0, le=8)] = 0
    timeout_minutes: Annotated[int, Field(ge=1, le=2880)]
    termination_grace_seconds: Annotated[int, Field(ge=10, le=600)] = Field(
        default=30, description="From the signal to stop until the pod is killed: time to save what there is."
    )
    retries: Annotated[int, Field(ge=0, le=10)] = 2


class Steps(Strict):
    """One entry per container step."""

    validate_: Step = Field(alias="validate")
    prepare: Step
    train: Step
    evaluate: Step
    deploy: Step
    monitor: Step = Step(service_account="monitor", cpu="1", memory="4Gi", timeout_minutes=60)


class Orchestration(Strict):
    """How Airflow runs the pipeline."""

    owner: str
    schedule: str | None
    max_active_runs: Annotated[int, Field(ge=1, le=16)]
    landing_timeout_hours: Annotated[int, Field(ge=1, le=744)]
    run_timeout_hours: Annotated[int, Field(ge=1, le=744)] = Field(
        default=24, description="Longest a run may take once its data is there."
    )
    poll_seconds: Annotated[float, Field(gt=0, le=600)]
    attended_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        default=0, description="How long a worker stays with a new pod before it hands over to the triggerer."
    )
    startup_timeout_seconds: Annotated[int, Field(ge=60, le=7200)] = 1800
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_delay_seconds: Annotated[float, Field(ge=0, le=3600)]


class Search(Strict):
    """How trials are chosen, and what they may cost."""

    method: Literal["grid", "random", "bayesian"] = Field(
        default="random", description="`bayesian` learns from earlier trials and needs the study database."
    )
    pruning: bool = Field(
        default=False, description="End a trial early that is worse than the median of the others at the same step."
    )
    maximum_trials: Annotated[int, Field(ge=1, le=512)] = 512
    maximum_gpu_hours: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Trials that would start after this many GPU-hours of the run are skipped."
    )
    trials_per_pod: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="So many trials share a pod, and its GPU, and run together."
    )


class StudyDatabase(Strict):
    """The PostgreSQL database, and in it the user of the same name, that trials share what they learned in."""

    host: str
    port: int = 5432
    name: str
    secret_id: str | None = Field(
        default=None,
        description="Secret with a JSON object of `username` and `password`; without one the pod's own role signs in "
        "(IAM authentication of RDS).",
    )


class Training(Strict):
    """Defaults of a run's parameters, and limits of the search."""

    dataset: Name
    family: Name
    trials: Annotated[int, Field(ge=1, le=512)]
    parallel_pods: Annotated[int, Field(ge=1, le=64)]
    minimum_successful_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5, description="Share of the trials that must succeed; with fewer the run ends without a candidate."
    )
    seed: int = 0
    device: Device = "auto"
    checkpoint_seconds: Annotated[float, Field(gt=0)] = Field(
        default=300, description="How often a trial saves its state, so that an evicted one goes on from there."
    )
    pods_per_trial: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="More than one trains a PyTorch trial data-parallel, as an indexed Job."
    )
    search: Search = Search()
    study_database: StudyDatabase | None = None

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.trials > self.search.maximum_trials:
            raise ValueError(
                f"trials: {self.trials} are more than search.maximum_trials ({self.search.maximum_trials})"
            )
        return self


class Spark(Strict):
    """The EMR Serverless application that prepares what does not fit a pod."""

    application_id: str
    execution_role_arn: str


class Preparation(Strict):
    """Where data is prepared."""

    engine: Literal["auto", "duckdb", "spark"] = Field(
        default="auto", description="`auto` takes Spark above `spark_above_gib`, where there is one."
    )
    spark_above_gib: Annotated[float, Field(gt=0)] = Field(
        default=50, description="Size of the input files, compressed as they are, from which Spark does the work."
    )
    spark: Spark | None = None


class Monitoring(Strict):
    """How live models are watched, and what becomes of an alarm; see docs/monitoring.md."""

    schedule: str | None = Field(default=None, description="Of monitor_model: cron or a preset; null: by hand only.")
    window_hours: Annotated[float, Field(gt=0, le=744)] = Field(
        default=24, description="Requests of so many hours are compared with the training data."
    )
    settle_minutes: Annotated[float, Field(ge=0, le=1440)] = Field(
        default=15, description="The window ends so long before the run: captured requests are written with a delay."
    )
    label_hours: Annotated[float, Field(gt=0, le=2208)] = Field(
        default=168, description="Quality is measured on the requests of so many hours whose labels have landed."
    )
    minimum_rows: Annotated[int, Field(ge=2)] = Field(
        default=200, description="Rows that a version must have answered; of fewer no drift is judged."
    )
    minimum_labels: Annotated[int, Field(ge=2)] = Field(
        default=100, description="Answered rows with a label that a version must have; of fewer no quality is judged."
    )
    maximum_feature_psi: Positive = 0.25
    maximum_prediction_psi: Positive = 0.25
    maximum_quality_loss: Positive = Field(
        default=0.1, description="Share of the evaluation's metric that may be lost, such as 0.1 of 0.80 or of 12 min."
    )
    level: Level = Field(
        default=0.99, description="Chance that a version with nothing wrong is called drifted on no feature at all."
    )
    action: Literal["alarm", "retrain"] = "alarm"
    cool_down_hours: Annotated[float, Field(ge=0, le=2208)] = Field(
        default=72, description="After a retraining was asked for, none is for so long."
    )

    @model_validator(mode="after")
    def _labels_cover_the_window(self) -> Self:
        if self.label_hours < self.window_hours:
            raise ValueError(f"label_hours: {self.label_hours:g} is less than window_hours ({self.window_hours:g})")
        return self


class Settings(Strict):
    """Everything the pipeline needs to know about the environment it runs in."""

    environment: Literal["local", "dev", "staging", "prod"]
    git_sha: str = "unknown"
    aws: Aws
    buckets: Buckets
    kubernetes: Kubernetes
    images: Images
    mlflow: Mlflow
    serving: Serving
    notifications: Notifications
    approval: Approval = Approval()
    orchestration: Orchestration
    training: Training
    preparation: Preparation = Preparation()
    monitoring: Monitoring = Monitoring()
    policy: Guards = Field(default=Guards(), description="Laid over the policy of each dataset, key by key.")
    steps: Steps

    @model_validator(mode="after")
    def _node_pools_exist(self) -> Self:
        for name in type(self.steps).model_fields:
            step: Step = getattr(self.steps, name)
            for key in ("node_pool", "cpu_node_pool"):
                pool: str | None = getattr(step, key)
                if pool is not None and pool not in self.kubernetes.node_pools:
                    pools = ", ".join(sorted(self.kubernetes.node_pools))
                    raise ValueError(f"steps.{name.rstrip('_')}.{key}: {pool!r} is not one of {pools}")
        return self


# --- One prediction task ----------------------------------------------------------------------


class Column(Strict):
    """What a column of a landing file must look like."""

    type: ColumnType
    nullable: bool = False
    maximum_null_share: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share of a file's rows that may be without a value; the column must be nullable."
    )
    required_when: str | None = Field(
        default=None, description="SQL condition on the row; where it holds, the value must be there and finite."
    )
    minimum: float | None = None
    maximum: float | None = None
    allowed: list[str] | None = None
    pattern: str | None = Field(
        default=None,
        description="Regular expression (RE2) that a text must match from its first to its last character.",
    )
    severity: Severity = Field(
        default="fail",
        description="What becomes of a file whose values are not as expected; a missing column or a wrong type always "
        "fails.",
    )
    drift: bool = Field(
        default=True,
        description="Whether it is compared with the champion's training data; false for what moves with time, such as "
        "a month. Timestamps and a key of one column never are.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.maximum_null_share is not None and not self.nullable:
            raise ValueError("maximum_null_share needs `nullable: true`; without it no null is allowed at all")
        if self.pattern is not None and self.type != "string":
            raise ValueError(f"pattern is for texts, not for type {self.type}")
        return self


class Freshness(Strict):
    """How old the newest row of a table may be when it is validated."""

    column: str = Field(description="Timestamp column that says when a row came about; UTC without a time zone.")
    maximum_age_hours: Annotated[float, Field(gt=0)]
    severity: Severity = "fail"


class Table(Strict):
    """Files of one kind under ``s3://<landing>/<dataset>/<table>/``."""

    trigger: bool = Field(default=False, description="Whether a new file of this table starts a run; land it last.")
    minimum_rows: Annotated[int, Field(ge=1)] = Field(default=1, description="Of a file.")
    maximum_rows: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Of a file.")
    columns: dict[str, Column]
    unique_key: list[str] = Field(default=[], description="Columns that name a row of the table; nulls never collide.")
    freshness: Freshness | None = None
    severity: Severity = Field(default="fail", description="Of the number of rows and of the unique key.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.maximum_rows is not None and self.maximum_rows < self.minimum_rows:
            raise ValueError(f"maximum_rows ({self.maximum_rows}) is below minimum_rows ({self.minimum_rows})")
        if unknown := [name for name in self.unique_key if name not in self.columns]:
            raise ValueError(f"unique_key: {unknown[0]!r} is not one of the table's columns")
        if self.freshness is not None:
            column = self.columns.get(self.freshness.column)
            if column is None or column.type != "timestamp":
                raise ValueError(f"freshness.column: {self.freshness.column!r} is not a timestamp column of the table")
        return self


class Feature(Strict):
    """How a column of the query enters the model."""

    type: Literal["number", "category"]


class TimeSplit(Strict):
    """The latest days test the model, those before validate it, all earlier ones train it."""

    kind: Literal["time"]
    column: str
    validation_days: Annotated[int, Field(ge=1)]
    test_days: Annotated[int, Field(ge=1)]


class RandomSplit(Strict):
    """Each example's part is drawn by a hash of its key, so it stays there when data is added."""

    kind: Literal["random"]
    key: Annotated[list[str], Field(min_length=1)] = Field(description="Columns of the query that name an example.")
    seed: int = 0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        _check_shares(self)
        return self


class GroupSplit(Strict):
    """All examples of a group are in the same part; groups are drawn by hash, as in `RandomSplit`."""

    kind: Literal["group"]
    column: str
    seed: int = 0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        _check_shares(self)
        return self


def _check_shares(split: RandomSplit | GroupSplit) -> None:
    if split.validation_share + split.test_share > 0.9:
        raise ValueError(
            f"validation_share and test_share leave {1 - split.validation_share - split.test_share:.0%} to train on; "
            "at least 10 % are needed"
        )


SplitPlan = Annotated[TimeSplit | RandomSplit | GroupSplit, Field(discriminator="kind")]


class SearchRange(Strict):
    """A numeric hyperparameter, drawn uniformly between both ends, on a logarithmic scale if asked."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    integer: bool = False
    points: Annotated[int, Field(ge=2, le=100)] = Field(
        default=3, description="How many values a grid has of it, both ends among them, evenly spread on its scale."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {self.low:g}")
        return self


Scalar = bool | int | float | str
# Which one is meant is plain to see, so that a mistake in it is told once and not of both.
SearchSpace = dict[
    str,
    Annotated[
        Annotated[SearchRange, Tag("range")] | Annotated[list[Scalar], Field(min_length=1), Tag("values")],
        Discriminator(lambda written: "values" if isinstance(written, list) else "range"),
    ],
]


class Parameter(Strict):
    """A parameter of a model family: its type, what it may be, and what it is unless said otherwise."""

    type: Literal["integer", "number", "string", "boolean"]
    default: Scalar
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = Field(default=None, description="Must be greater than this; `minimum` may be equal.")
    choices: list[str] | None = None
    help: str = ""


class FamilySpec(Strict):
    """``config/families/<family>.yaml``: what a model family can do and which parameters it has."""

    name: Name
    description: str
    module: str = Field(description="Python module with the family's code; see `trainer.families.base`.")
    image: Literal["trainer", "trainer_cuda"] = Field(
        description="The image it needs; on a pod with a GPU every family gets `trainer_cuda`."
    )
    tasks: Annotated[list[TaskKind], Field(min_length=1)]
    devices: Annotated[list[Literal["cpu", "cuda"]], Field(min_length=1)] = Field(
        default=["cpu"], description="What it can compute on; without `cuda` it is never given a GPU."
    )
    distributed: bool = Field(default=False, description="Whether one trial can train over several pods.")
    parameters: dict[str, Parameter]
    search: SearchSpace = Field(description="Searched where a dataset's configuration does not say otherwise.")


class FamilyConfig(Strict):
    """Fixed parameters of a model family for one dataset, and the space its trials are drawn from."""

    params: dict[str, Scalar] = {}
    search: SearchSpace | None = Field(default=None, description="Instead of the family's own search space.")


class LabelBalance(Strict):
    """How rare the rarest class may be among the examples that the query makes of a run's files."""

    minimum_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    severity: Severity = "warn"


class Drift(Strict):
    """How far the distribution of a column of the new files may be from the files that the champion was trained on."""

    maximum_psi: Annotated[float, Field(gt=0)] = Field(
        default=0.25, description="Population stability index; above 0.25 is commonly called a significant shift."
    )
    minimum_rows: Annotated[int, Field(ge=1)] = Field(default=200, description="With fewer it is not measured.")
    severity: Severity = "warn"


class Checks(Strict):
    """What is expected of the data as a whole; None leaves a check out."""

    label_balance: LabelBalance | None = LabelBalance()
    drift: Drift | None = Drift()


class ModelConfig(Strict):
    """``config/models/<dataset>.yaml``: one prediction task from landing files to promotion policy."""

    name: Name
    description: str
    owner: str
    registered_model: Name
    task: TaskKind
    tables: dict[Name, Table]
    query: str = Field(
        description="DuckDB SQL over the tables: one row per example with the features, the target, the split column "
        "and the reference columns."
    )
    target: str
    features: dict[str, Feature]
    references: list[str] = Field(default=[], description="Columns kept beside an example for people; never features.")
    split: SplitPlan
    metric: Metric
    checks: Checks = Checks()
    slices: list[str] = Field(default=[], description="Category features by which the evaluation is broken down.")
    families: dict[Name, FamilyConfig]
    policy: Policy

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(
                f"name: {self.name!r} is a folder of the landing bucket that is no dataset's; choose another"
            )
        if self.metric not in METRICS[self.task]:
            raise ValueError(
                f"metric: a {self.task} task has no {self.metric!r}: choose from {', '.join(METRICS[self.task])}"
            )
        for name in self.slices:
            if name not in self.features or self.features[name].type != "category":
                raise ValueError(f"slices: {name!r} is not a category feature")
        if self.target in self.features:
            raise ValueError(f"features.{self.target}: the target cannot be a feature (it would leak the answer)")
        if self.target in self.references:
            raise ValueError(f"references: {self.target!r} is the target, which is kept beside an example anyway")
        if leaked := sorted(set(self.references) & set(self.features)):
            raise ValueError(f"features.{leaked[0]}: a reference column cannot be a feature")
        triggers = sorted(name for name, table in self.tables.items() if table.trigger)
        if len(triggers) != 1:
            raise ValueError(
                "tables: exactly one of them needs `trigger: true`, the one whose files start a run "
                f"(got {', '.join(triggers) or 'none'})"
            )
        if not self.features:
            raise ValueError("features: at least one is needed")
        if not self.families:
            raise ValueError("families: at least one is needed")
        try:
            self.policy.check(self.metric)
        except ValueError as error:
            raise ValueError(f"policy.{error}") from None
        return self

    @property
    def trigger_table(self) -> str:
        """Name of the table whose new files start a run."""
        return next(name for name, table in self.tables.items() if table.trigger)


# --- What one run is given --------------------------------------------------------------------


class InputObject(Strict):
    """One landed file, pinned to the version that was there when the run began."""

    table: str
    bucket: str
    key: str
    version_id: str | None
    content_id: str = Field(description="Identity of the bytes (checksum or ETag, and size), the same if landed again.")
    size: int
    new: bool = Field(description="Whether it still lies in the landing bucket, not yet accepted or quarantined.")

    @property
    def uri(self) -> str:
        """Address of the file, without its version."""
        return f"s3://{self.bucket}/{self.key}"


class InputManifest(Strict):
    """``inputs.json``: the files a run reads."""

    objects: list[InputObject]


class Trial(Strict):
    """One point of the search space."""

    index: int
    params: dict[str, Scalar] = Field(
        description="All parameters that are set for it; under `bayesian` search only the fixed ones: the pod asks the "
        "study for the others. Trial 0 is the middle of the space under `random` and `bayesian`, and has them all."
    )


class Candidate(Strict):
    """The registered model version under evaluation or deployment."""

    version: str
    run_id: str
    model_digest: str = Field(description="SHA-256 of the saved model's files, see `modelformat`.")


class Experiment(Strict):
    """A second model version that answers a share of the requests, as the variant `challenger` (A/B test)."""

    version: str
    run_id: str
    model_digest: str
    weight: Annotated[float, Field(gt=0, lt=1)] = Field(description="Share of the requests that it answers.")
    examples_uri: str | None = Field(
        default=None, description="Its held-out examples; without them its answers are compared in form only."
    )


class Deployment(Strict):
    """What the deployer is asked to put live."""

    purpose: Literal["deploy", "rollback"] = Field(
        default="deploy",
        description="`rollback` puts the version of the alias `previous` back, which is the candidate.",
    )
    endpoint_name: str
    serving_image: str
    execution_role_arn: str
    instance_type: str
    instance_count: int
    startup_timeout_seconds: int
    artifacts_bucket: str
    examples_uri: str = Field(description="The candidate's held-out examples, with the predictions expected of them.")
    kms_key_arn: str | None = None
    encrypt_volumes: bool = Field(default=True, description="With the key; not where local disks encrypt themselves.")
    capture: Capture = Capture()
    network_isolation: bool = True
    vpc: Vpc | None = None
    alarms: list[str] = []
    rollout: Rollout = Rollout()
    kept_configurations: int = 5
    experiment: Experiment | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        dataset: str,
        examples_uri: str,
        *,
        purpose: Literal["deploy", "rollback"] = "deploy",
        experiment: Experiment | None = None,
    ) -> Self:
        """Return what an environment's settings say of a dataset's endpoint."""
        serving = settings.serving
        own_encryption = serving.local_disk_types and re.match(serving.local_disk_types, serving.instance_type)
        endpoint = serving.endpoint_name.format(dataset=dataset)
        uri = serving.capture.uri or f"s3://{settings.buckets.data}/capture/{endpoint}"
        return cls(
            purpose=purpose,
            endpoint_name=endpoint,
            serving_image=settings.images.serving,
            execution_role_arn=serving.execution_role_arn,
            instance_type=serving.instance_type,
            instance_count=serving.instance_count,
            startup_timeout_seconds=serving.startup_timeout_seconds,
            artifacts_bucket=settings.buckets.artifacts,
            examples_uri=examples_uri,
            kms_key_arn=serving.kms_key_arn,
            encrypt_volumes=not own_encryption,
            capture=Capture(percentage=serving.capture.percentage, uri=uri.format(dataset=dataset)),
            network_isolation=serving.network_isolation,
            vpc=serving.vpc,
            alarms=serving.alarms.get(dataset, []),
            rollout=serving.rollout,
            kept_configurations=serving.kept_configurations,
            experiment=experiment,
        )


class Watch(Strict):
    """What the step `monitor` looks at: the requests of a window, start inclusive, end exclusive, UTC."""

    endpoint_name: str
    capture_uri: str
    labels_uri: str
    start: datetime
    labels_start: datetime = Field(description="Quality is measured from here on.")
    end: datetime
    unnamed_version: str | None = Field(
        default=None,
        description="Version of answers that name none (CSV); None where several were live, or nobody knows.",
    )
    environment: str
    limits: Monitoring


class RunConfig(Strict):
    """``config.json``: the effective configuration a container step works with."""

    version: Literal[2] = 2
    run_key: str
    seed: int
    family: FamilySpec
    model: ModelConfig
    policy: Policy
    tracking_uri: str
    region: str
    lineage: dict[str, str] = {}
    device: Device = "auto"
    checkpoint_seconds: float = 300
    search: Search = Search()
    study_database: StudyDatabase | None = None
    preparation: Preparation = Preparation()
    parent_run_id: str | None = Field(default=None, description="MLflow run that the trials' runs are nested in.")
    trials: list[Trial] = Field(default=[], description="What one training pod does; several run together.")
    candidate: Candidate | None = None
    deployment: Deployment | None = None
    monitoring: Watch | None = None


# --- Loading ----------------------------------------------------------------------------------


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level")
    return content


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Overlay mappings key by key; anything that is not a mapping replaces what was there."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def explain(source: str, error: ValidationError, content: Any = None) -> ConfigError:
    """One line per key that is wrong: file, key, what is wrong.

    Args:
        source: what the file is called in a message.
        content: what was refused; with it, a key is named as it is written there.
    """
    mistakes: dict[str, list[str]] = {}
    got: dict[str, str] = {}
    for problem in error.errors():
        key = ".".join(_written(problem["loc"], content, missing=problem["type"] == "missing"))
        mistakes.setdefault(key, []).append(re.sub(r"^Value error, ", "", problem["msg"]))
        structured = isinstance(problem["input"], dict | list) or not key
        got[key] = "" if structured else f" (got {problem['input']!r})"
    return ConfigError(
        "\n".join(
            f"{source}: {key + ': ' if key else ''}{' or '.join(dict.fromkeys(messages))}{got[key]}"
            for key, messages in mistakes.items()
        )
    )


def _written(location: tuple[int | str, ...], content: Any, *, missing: bool) -> list[str]:
    """Return a key's path without the names of alternatives that pydantic puts between."""
    path, here = [], content
    for position, part in enumerate(location):
        if isinstance(here, Mapping) and part in here:
            here = here[str(part)]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif content is not None and not (missing and position == len(location) - 1):
            continue
        path.append(str(part))
    return path


def load_settings(bundle: Path = BUNDLE) -> Settings:
    """Load the settings of the environment named in ``platform.json``.

    Raises:
        ConfigError: a file is missing, unreadable or refused by the schema.
    """
    platform_file = bundle / "platform.json"
    try:
        platform = json.loads(platform_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{platform_file}: no such file; it is written by Terraform (`make apply`) or by `make local-up`"
        ) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{platform_file}: not valid JSON: {error}") from None
    environment = platform.get("environment")
    overlay = bundle / "config" / f"{environment}.yaml"
    content = merge(merge(_read_yaml(bundle / "config" / "base.yaml"), _read_yaml(overlay)), platform)
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise explain(f"config/base.yaml + config/{environment}.yaml + platform.json", error, content) from None


def model_names(bundle: Path = BUNDLE) -> list[str]:
    """Names of the configured datasets, sorted."""
    return sorted(path.stem for path in (bundle / "config" / "models").glob("*.yaml"))


def load_model(name: str, bundle: Path = BUNDLE) -> ModelConfig:
    """Load ``config/models/<name>.yaml``.

    Raises:
        ConfigError: there is no such dataset, or its file is refused by the schema.
    """
    if name not in model_names(bundle):
        raise ConfigError(f"dataset {name!r} is not configured: config/models has {', '.join(model_names(bundle))}")
    source = f"config/models/{name}.yaml"
    model = read_document(bundle / source, source, ModelConfig)
    if model.name != name:
        raise ConfigError(f"{source}: name: must be {name!r} as the file's (got {model.name!r})")
    if model.task != "binary" and "calibration" in model.policy.model_fields_set and model.policy.calibration:
        raise ConfigError(f"{source}: policy.calibration: only a binary task has a calibration error")
    from mlplatform import families  # the catalogue's schema is here

    families.check_model(model, bundle)
    return model


def read_document[Document: Strict](path: Path, source: str, schema: type[Document]) -> Document:
    """Read a YAML file by a schema.

    Args:
        source: what the file is called in a message.

    Raises:
        ConfigError: the file is missing, unreadable or refused by the schema.
    """
    content = _read_yaml(path)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise explain(source, error, content) from None


def digest(*parts: Any) -> str:
    """Return a short, stable hash of JSON-serialisable parts (20 hex digits)."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]
