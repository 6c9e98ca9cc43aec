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
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

# The folder that holds ``config/`` and ``platform.json``: in Airflow, the DAG bundle itself.
BUNDLE = Path(__file__).parent.parent

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
ColumnType = Literal["integer", "number", "string", "boolean", "timestamp"]
Family = Literal["xgboost", "sklearn"]
Metric = Literal["roc_auc", "average_precision", "log_loss", "brier_score", "accuracy"]
LOWER_IS_BETTER: frozenset[str] = frozenset({"log_loss", "brier_score"})


class ConfigError(ValueError):
    """A configuration file is wrong; the message names the file, the key and what is allowed."""


class Strict(BaseModel):
    """Base of every schema here: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    deployer: str
    serving: str


class Mlflow(Strict):
    """The tracking server and model registry."""

    tracking_uri: str


class Serving(Strict):
    """The endpoint and what it runs on."""

    endpoint_name: str = Field(description="Name of the endpoint; `{dataset}` stands for the dataset's name.")
    execution_role_arn: str
    instance_type: str
    instance_count: Annotated[int, Field(ge=1)]
    startup_timeout_seconds: Annotated[int, Field(ge=60, le=3600)] = 600


class Notifications(Strict):
    """Where messages to people go; nowhere without a topic."""

    topic_arn: str | None = None


class Step(Strict):
    """Resources and limits of one container step."""

    namespace: Literal["training", "deployment"] = "training"
    service_account: str
    node_pool: str = "cpu"
    cpu: str
    memory: str
    gpus: Annotated[int, Field(ge=0, le=8)] = 0
    timeout_minutes: Annotated[int, Field(ge=1, le=2880)]
    retries: Annotated[int, Field(ge=0, le=10)] = 2


class Steps(Strict):
    """One entry per container step."""

    validate_: Step = Field(alias="validate")
    prepare: Step
    train: Step
    evaluate: Step
    deploy: Step


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


class Training(Strict):
    """Defaults of a run's parameters, and limits of the search."""

    dataset: Name
    family: Family
    trials: Annotated[int, Field(ge=1, le=512)]
    parallel_trials: Annotated[int, Field(ge=1, le=64)]
    minimum_successful_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5, description="Share of the trials that must succeed; with fewer the run ends without a candidate."
    )
    seed: int = 0


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
    orchestration: Orchestration
    training: Training
    steps: Steps

    @model_validator(mode="after")
    def _node_pools_exist(self) -> Self:
        for name in type(self.steps).model_fields:
            step: Step = getattr(self.steps, name)
            if step.node_pool not in self.kubernetes.node_pools:
                pools = ", ".join(sorted(self.kubernetes.node_pools))
                raise ValueError(f"steps.{name.rstrip('_')}.node_pool: {step.node_pool!r} is not one of {pools}")
        return self


# --- One prediction task ----------------------------------------------------------------------


class Column(Strict):
    """What a column of a landing file must look like."""

    type: ColumnType
    nullable: bool = False
    required_when: str | None = Field(
        default=None, description="SQL condition on the row; where it holds, the value must be there and finite."
    )
    minimum: float | None = None
    maximum: float | None = None
    allowed: list[str] | None = None


class Table(Strict):
    """Files of one kind under ``s3://<landing>/<dataset>/<table>/``."""

    trigger: bool = Field(default=False, description="Whether a new file of this table starts a run; land it last.")
    minimum_rows: Annotated[int, Field(ge=1)] = 1
    columns: dict[str, Column]
    unique_key: list[str] = []


class Feature(Strict):
    """How a column of the query enters the model."""

    type: Literal["number", "category"]


class TimeSplit(Strict):
    """The latest days test the model, those before validate it, all earlier ones train it."""

    kind: Literal["time"]
    column: str
    validation_days: Annotated[int, Field(ge=1)]
    test_days: Annotated[int, Field(ge=1)]


class SearchRange(Strict):
    """A numeric hyperparameter, drawn uniformly between both ends, on a logarithmic scale if asked."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    integer: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {self.low:g}")
        return self


Scalar = bool | int | float | str


class FamilyConfig(Strict):
    """Fixed parameters of a model family and the space its trials are drawn from."""

    params: dict[str, Scalar] = {}
    search: dict[str, SearchRange | list[Scalar]] = {}

    @model_validator(mode="after")
    def _no_empty_choice(self) -> Self:
        for name, space in self.search.items():
            if isinstance(space, list) and not space:
                raise ValueError(f"search.{name}: an empty list of choices; give at least one")
        return self


class Policy(Strict):
    """When a candidate may replace the champion; see ``mlplatform.gate``."""

    minimum_quality: float = Field(description="The candidate's metric on held-out data must be at least this good.")
    minimum_improvement: float = Field(
        default=0.0, description="How much better than the champion it must be; negative allows a small loss."
    )


class ModelConfig(Strict):
    """``config/models/<dataset>.yaml``: one prediction task from landing files to promotion policy."""

    name: Name
    description: str
    owner: str
    registered_model: Name
    task: Literal["binary"]
    tables: dict[Name, Table]
    query: str = Field(
        description="DuckDB SQL over the tables: one row per example with the features, the target, the split column "
        "and the reference columns."
    )
    target: str
    features: dict[str, Feature]
    references: list[str] = Field(default=[], description="Columns kept beside an example for people; never features.")
    split: TimeSplit
    metric: Metric
    families: dict[Family, FamilyConfig]
    policy: Policy

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.target in self.features:
            raise ValueError(f"features.{self.target}: the target cannot be a feature (it would leak the answer)")
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
    params: dict[str, Scalar]


class Candidate(Strict):
    """The registered model version under evaluation or deployment."""

    version: str
    run_id: str
    model_digest: str = Field(description="SHA-256 of the saved model's files, see `modelformat`.")


class Deployment(Strict):
    """What the deployer is asked to put live."""

    endpoint_name: str
    serving_image: str
    execution_role_arn: str
    instance_type: str
    instance_count: int
    startup_timeout_seconds: int
    artifacts_bucket: str
    examples_uri: str = Field(description="Held-out examples with the predictions expected of them.")


class RunConfig(Strict):
    """``config.json``: the effective configuration a container step works with."""

    version: Literal[1] = 1
    run_key: str
    seed: int
    family: Family
    model: ModelConfig
    policy: Policy
    tracking_uri: str
    region: str
    lineage: dict[str, str] = {}
    trial: Trial | None = None
    candidate: Candidate | None = None
    deployment: Deployment | None = None


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


def explain(source: str, error: ValidationError) -> ConfigError:
    """One line per mistake: file, key, what is wrong."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        message = re.sub(r"^Value error, ", "", problem["msg"])
        got = "" if isinstance(problem["input"], dict | list) or not key else f" (got {problem['input']!r})"
        lines.append(f"{source}: {key + ': ' if key else ''}{message}{got}")
    return ConfigError("\n".join(lines))


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
        raise explain(f"config/base.yaml + config/{environment}.yaml + platform.json", error) from None


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
    path = bundle / "config" / "models" / f"{name}.yaml"
    content = _read_yaml(path)
    try:
        model = ModelConfig.model_validate(content)
    except ValidationError as error:
        raise explain(f"config/models/{name}.yaml", error) from None
    if model.name != name:
        raise ConfigError(f"config/models/{name}.yaml: name: must be {name!r} as the file's (got {model.name!r})")
    return model


def digest(*parts: Any) -> str:
    """Return a short, stable hash of JSON-serialisable parts (20 hex digits)."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]
