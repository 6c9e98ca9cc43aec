"""What a dataset may say instead of the environment: part of the settings, in its own file.

Left out is what keeps the environment safe or within its budget: rights, networks, images, limits of what a search
may cost, whether approval may be done without.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Literal

from pydantic import Field, create_model

from mlplatform.config.base import Strict
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import (
    Approval,
    Capture,
    Monitoring,
    Notifications,
    Orchestration,
    Preparation,
    Rollout,
    Search,
    Serving,
    StepName,
    StepResources,
    Training,
)


def _part(model: type[Strict], *names: str, **nested: Any) -> Any:
    """Return a schema of some of a schema's keys, none of which has to be there.

    Args:
        model: the schema.
        names: keys that are as they are there.
        nested: keys with a schema of their own.
    """
    fields: dict[str, Any] = {}
    for name in (*names, *nested):
        info = copy(model.model_fields[name])
        info.default, info.default_factory = None, None
        fields[name] = (nested.get(name, info.annotation), info)
    return create_model(f"Own{model.__name__}", __base__=Strict, **fields)


_STEP: Any = _part(StepResources, "node_pool", "cpu", "memory", "gpus", "timeout_minutes", "retries")
_SECTIONS: dict[str, Any] = {
    "orchestration": _part(
        Orchestration,
        "schedule",
        "start_paused",
        "tags",
        "max_active_runs",
        "landing_timeout_hours",
        "run_timeout_hours",
        "retries",
        "retry_delay_seconds",
    ),
    "training": _part(
        Training,
        "family",
        "trials",
        "parallel_pods",
        "minimum_successful_share",
        "seed",
        "device",
        "checkpoint_seconds",
        "pods_per_trial",
        search=_part(Search, "method", "pruning", "trials_per_pod"),
    ),
    "steps": dict[StepName, _STEP],
    "preparation": _part(Preparation, "engine", "spark_above_gib"),
    "approval": _part(Approval, "deadline_hours", "approvers", "poll_seconds"),
    "serving": _part(
        Serving,
        "instance_type",
        "instance_count",
        "startup_timeout_seconds",
        capture=_part(Capture, "percentage"),
        rollout=_part(Rollout, *Rollout.model_fields),
    ),
    "monitoring": _part(Monitoring, *Monitoring.model_fields),
    "notifications": _part(Notifications, "topic_events", "slack", "email"),
}

_FIELDS: dict[str, Any] = {name: (schema, Field(default=None)) for name, schema in _SECTIONS.items()}

OwnSettings: Any = create_model(
    "OwnSettings",
    __base__=Strict,
    __doc__="Settings of one dataset, laid over the environment's key by key.",
    **_FIELDS,
)

InEnvironment: Any = create_model(
    "InEnvironment",
    __base__=Strict,
    __doc__="What is different about a dataset in one environment.",
    enabled=(bool, Field(default=True, description="Whether the dataset has its DAGs there.")),
    settings=(OwnSettings, Field(default=None, description="Laid over the dataset's settings, key by key.")),
)

DatasetFile: Any = create_model(
    "DatasetFile",
    __base__=ModelConfig,
    __doc__=ModelConfig.__doc__,
    settings=(OwnSettings, Field(default=None, description="Laid over the environment's settings, key by key.")),
    environments=(
        dict[Literal["local", "dev", "staging", "prod"], InEnvironment],
        Field(default={}, description="What is different in some environments."),
    ),
)
"""``config/models/<dataset>.yaml`` as a whole: the prediction task, and how it is run."""

OWN_KEYS = ("settings", "environments")
"""The keys of a dataset's file that say how the platform runs it, and nothing about its models."""
