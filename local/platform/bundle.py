"""The DAG bundle as Airflow sees it: the project's own DAGs and configuration, and the facts of this platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from local.images import write_images
from local.platform.alarms import endpoints, rollback_alarm_names
from local.platform.facts import ACCOUNT, BUCKETS, REGION, STUDIES, STUDIES_SECRET, Facts
from local.platform.home import ROOT, Home, PlatformError, use_dag_library
from local.platform.images import image_if_set_up, references
from local.platform.ports import LOOPBACK


def platform_facts(facts: Facts, images: dict[str, str]) -> dict[str, Any]:
    """Return ``platform.json``: what Terraform's outputs are in the cloud; see
    `mlplatform.config.environment.Settings`."""
    return {
        "environment": "local",
        "git_sha": facts.git_sha,
        "aws": {"region": REGION, "account_id": ACCOUNT},
        "buckets": dict(BUCKETS),
        # Beside the DAGs, as in the cloud, where Terraform renders it into the DAG bucket.
        "kubernetes": {"kubeconfig": "kubeconfig", "context": "local"},
        "images": images,
        "mlflow": {"tracking_uri": facts.mlflow_url},
        "serving": {
            "execution_role_arn": facts.execution_role_arn,
            "alarms": {dataset: rollback_alarm_names(endpoint) for dataset, endpoint in endpoints().items()},
        },
        "notifications": {"topic_arn": facts.topic_arn},
        "training": {
            "study_database": {
                "host": LOOPBACK,
                "port": facts.ports["postgres"],
                "name": STUDIES,
                "secret_id": STUDIES_SECRET,
            }
        },
    }


def assemble(facts: Facts, root: Path = ROOT) -> None:
    """Make the bundle, or bring it up to date with the project's files; also the image registry.

    DAGs and configuration are links, so that editing them needs no restart.
    """
    bundle = facts.home.bundle
    bundle.mkdir(exist_ok=True)
    wanted = {path.name: path for path in (root / "dags").iterdir() if path.name != "__pycache__"}
    wanted["config"] = root / "config"
    wanted["kubeconfig"] = facts.home.airflow_kubeconfig
    for entry in bundle.iterdir():
        if entry.is_symlink() and (entry.name not in wanted or entry.readlink() != wanted[entry.name]):
            entry.unlink()
    for name, target in wanted.items():
        if not (bundle / name).is_symlink():
            (bundle / name).symlink_to(target)
    update_images(facts.home, platform_facts(facts, references(root)))


def update_images(home: Home, platform: dict[str, Any]) -> None:
    """Write the image registry and then, naming its images, ``platform.json``."""
    names: dict[str, str] = platform["images"]
    write_images(home.images_file, {names[name]: image_if_set_up(name, str(home.root)) for name in names})
    content = json.dumps(platform, indent=2)
    target = home.bundle / "platform.json"
    if target.exists() and target.read_text(encoding="utf-8") == content:
        return
    partial = home.root / "platform.json.partial"
    partial.write_text(content, encoding="utf-8")
    partial.replace(target)


def check_settings(bundle: Path) -> None:
    """Load the settings as the DAGs will, to learn of a mistake in configuration before anything starts.

    Raises:
        PlatformError: a configuration file is refused.
    """
    use_dag_library()
    from mlplatform.config import loading
    from mlplatform.errors import ConfigError

    try:
        loading.load_settings(bundle)
        for name in loading.family_names(bundle):
            loading.load_family(name, bundle)
        for name in loading.model_names(bundle):
            loading.load_dataset(name, bundle)
    except ConfigError as error:
        raise PlatformError(str(error)) from None
