"""The settings of an environment: ``config/base.yaml``, ``config/<environment>.yaml`` and ``platform.json``."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from mlplatform.config.base import Device, Label, Level, Name, Positive, Strict
from mlplatform.config.policy import Guards
from mlplatform.config.schedules import Schedule


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

    node_selector: dict[str, str] = Field(default={})
    tolerations: list[Toleration] = Field(default=[])


class Kubernetes(Strict):
    """The cluster that runs the steps."""

    kubeconfig: str = Field(description="Path of the kubeconfig; a relative one is inside the DAG bundle.")
    context: str | None = None
    training_namespace: str
    deployment_namespace: str
    node_pools: dict[str, NodePool]
    gpus: bool = Field(default=True, description="Whether there are nodes with GPUs; Terraform knows.")


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
    "superseded",
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


StepName = Literal["validate", "prepare", "train", "evaluate", "deploy", "monitor"]
"""Container steps; what each one is, is in `mlplatform.steps.STEPS`."""


class StepResources(Strict):
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


class Orchestration(Strict):
    """How Airflow runs the pipeline."""

    schedule: Schedule | None = Field(description="Of training: cron or a preset; null: by hand only.")
    start_paused: bool = Field(default=False, description="Whether a new dataset's DAGs wait for somebody to unpause.")
    tags: list[Annotated[Label, Field(max_length=100)]] = Field(
        default=[], description="By which Airflow finds the DAGs, beside the dataset, its owner and the environment."
    )
    max_active_runs: Annotated[int, Field(ge=1, le=64)] = Field(
        default=16, description="Of a dataset's training, those that wait included; of them, one at a time works."
    )
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
    deployment_slots: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=32, description="Tasks that deploy or roll back at once, of all datasets; the size of their pool."
    )


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

    family: Name = Field(description="Of datasets that can be trained with it; of another one, its first family.")
    trials: Annotated[int, Field(ge=1, le=512)]
    parallel_pods: Annotated[int, Field(ge=1, le=64)] = Field(
        description="Tasks of a dataset's training that have pods at once; its share of the cluster."
    )
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

    schedule: Schedule | None = Field(default=None, description="Cron or a preset; null: by hand only.")
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
    project: str = Field(default="ml-platform", description="Value of the tag Project on all that is made.")
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
    steps: dict[StepName, StepResources] = Field(description="What each container step gets; all of them are there.")

    @model_validator(mode="after")
    def _every_step_has_resources(self) -> Self:
        if missing := [name for name in get_args(StepName) if name not in self.steps]:
            raise ValueError(f"steps.{missing[0]}: missing")
        return self

    @model_validator(mode="after")
    def _node_pools_exist(self) -> Self:
        for name, step in self.steps.items():
            for key in ("node_pool", "cpu_node_pool"):
                pool: str | None = getattr(step, key)
                if pool is not None and pool not in self.kubernetes.node_pools:
                    pools = ", ".join(sorted(self.kubernetes.node_pools))
                    raise ValueError(f"steps.{name}.{key}: {pool!r} is not one of {pools}")
        return self
