"""From what is left on the platform to a set: documents as they are, registry and SageMaker as JSON, saved models."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from local.golden.scenario import DATASET, OTHERS, SCRATCH
from local.pipeline import driver
from local.pipeline.attached import AttachedPlatform
from local.platform.home import ROOT, environment_python

PREDICT = Path(__file__).parent / "predict.py"
SAVED_MODEL = "model/data/"
"""Where in a run's artifacts the saved model is."""
# For people, or packaging around what is kept, or data that no reader of the set needs.
_LEFT_OUT = re.compile(
    rf"\.html$|^{SCRATCH}|^mlflow/|^models/.*\.tar\.gz$|/prepare/(train|validation)\.parquet$|\.py$|/train/\d+/.*\.tar$"
)


def collect(platform: AttachedPlatform, target: Path, version: str) -> None:
    """Write a set.

    Args:
        platform: on which everything has happened.
        target: folder of the set; must not exist.
        version: of the release.

    Raises:
        RuntimeError: something in it would tell of this machine.
    """
    objects = {purpose: dict(_objects(platform, bucket)) for purpose, bucket in _buckets(platform).items()}
    for purpose, found in objects.items():
        for key, content in found.items():
            if not _LEFT_OUT.search(key):
                _write(target / "s3" / purpose / key, content)
    _write(target / "platform.json", (platform.home.bundle / "platform.json").read_bytes())
    _write_json(target / "objects.json", _metadata(platform, objects))
    _write_json(target / "archives.json", _archives(objects["artifacts"]))
    _write_json(target / "registry.json", registry(platform))
    _write_json(target / "asset_events.json", _asset_events(platform))
    _write_json(target / "sagemaker.json", _sagemaker(platform))
    _models(platform, objects, target)
    _write_json(target / "set.json", _facts(platform, version))
    _check(platform, target)


def _buckets(platform: AttachedPlatform) -> dict[str, str]:
    return {"landing": platform.landing, "data": platform.data, "artifacts": platform.artifacts}


def _objects(platform: AttachedPlatform, bucket: str) -> Iterator[tuple[str, bytes]]:
    for key in platform.keys("", bucket):
        yield key, platform.s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def _metadata(platform: AttachedPlatform, objects: dict[str, dict[str, bytes]]) -> dict[str, Any]:
    """Return the metadata of each object that has some, by address: accepted files remember what they landed as."""
    found = {}
    for purpose, bucket in _buckets(platform).items():
        for key in objects[purpose]:
            head = platform.s3.head_object(Bucket=bucket, Key=key)
            if head["Metadata"] and not _LEFT_OUT.search(key):
                found[f"s3://{bucket}/{key}"] = head["Metadata"]
    return found


def _archives(artifacts: dict[str, bytes]) -> dict[str, Any]:
    """Return what the deployer packed for SageMaker: address, digest of the archive, and what is in it."""
    found = {}
    for key, content in artifacts.items():
        if not key.endswith("/model.tar.gz"):
            continue
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = {
                member.name: hashlib.sha256(tar.extractfile(member).read()).hexdigest()  # type: ignore[union-attr]
                for member in tar
            }
        unpacked = hashlib.sha256(gzip.decompress(content)).hexdigest()
        found[key] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "tar_sha256": unpacked,
            "bytes": len(content),
            "members": members,
        }
    return found


def registry(platform: AttachedPlatform) -> dict[str, Any]:
    """Return registered models with their versions and aliases, and all MLflow runs of the experiments."""
    client = platform.registry
    models = {}
    for model in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{model.name}'")
        models[model.name] = {
            "description": model.description,
            "aliases": {name: str(number) for name, number in sorted(model.aliases.items())},
            "versions": [
                {
                    "version": str(found.version),
                    "run_id": found.run_id,
                    "source": found.source,
                    "description": found.description,
                    "tags": dict(sorted(found.tags.items())),
                }
                for found in sorted(versions, key=lambda found: int(found.version))
            ],
        }
    runs = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            runs[run.info.run_id] = {
                "experiment": experiment.name,
                "name": run.info.run_name,
                "status": run.info.status,
                "artifact_uri": run.info.artifact_uri,
                "params": dict(sorted(run.data.params.items())),
                "metrics": dict(sorted(run.data.metrics.items())),
                "tags": dict(sorted(run.data.tags.items())),
            }
    return {"models": models, "runs": runs}


def _asset_events(platform: AttachedPlatform) -> list[dict[str, Any]]:
    """Return what each asset event carries: one that waits in Airflow during an upgrade is read by the new code."""
    events = []
    for dataset in (DATASET, *OTHERS):
        training = driver.dag_id("train", dataset)
        for run_id in platform.airflow.runs(training):
            events += platform.airflow.asset_events(training, run_id)
    return [{"asset": event["uri"], "source": event["source_run_id"], "extra": event["extra"]} for event in events]


def _sagemaker(platform: AttachedPlatform) -> dict[str, Any]:
    """Return endpoints, their configurations and models, as SageMaker describes them, with their tags."""
    client = platform.sagemaker

    def tagged(described: dict[str, Any], kind: str) -> dict[str, Any]:
        tags = client.list_tags(ResourceArn=described[f"{kind}Arn"])["Tags"]
        kept = {key: value for key, value in described.items() if key != "ResponseMetadata"}
        return {**kept, "Tags": {tag["Key"]: tag["Value"] for tag in tags}}

    return {
        "endpoints": {
            found["EndpointName"]: tagged(client.describe_endpoint(EndpointName=found["EndpointName"]), "Endpoint")
            for found in client.list_endpoints()["Endpoints"]
        },
        "configurations": {
            found["EndpointConfigName"]: tagged(
                client.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"]), "EndpointConfig"
            )
            for found in client.list_endpoint_configs()["EndpointConfigs"]
        },
        "models": {
            found["ModelName"]: tagged(client.describe_model(ModelName=found["ModelName"]), "Model")
            for found in client.list_models()["Models"]
        },
    }


def _models(platform: AttachedPlatform, objects: dict[str, dict[str, bytes]], target: Path) -> None:
    """Write the saved models of all versions, and one of each kind that was not registered, with their answers."""
    known = registry(platform)
    registered = {version["run_id"] for model in known["models"].values() for version in model["versions"]}
    kinds: set[tuple[str, str]] = set()
    index: dict[str, str] = {}
    trials = sorted(known["runs"].items(), key=lambda item: (item[0] not in registered, item[1]["name"]))
    for run_id, run in trials:
        files = _saved_model(objects["artifacts"], run_id)
        if not files:
            continue
        kind = run["params"].get("estimator", "")
        name = "-".join(part for part in (run["experiment"], run["tags"]["family"], kind.replace("_", "-")) if part)
        if run_id not in registered and (run["experiment"], name) in kinds:
            continue
        kinds.add((run["experiment"], name))
        name = f"{name}-{sum(other.startswith(name) for other in index) + 1}" if name in index else name
        index[name] = run_id
        for path, content in files.items():
            _write(target / "models" / name / "model" / path, content)
    examples = _examples(objects["data"], known)
    for name, run_id in index.items():
        folder = target / "models" / name
        instances = examples[known["runs"][run_id]["experiment"]]
        _write_json(folder / "answers.json", {"run_id": run_id, **_answers(folder / "model", instances)})


def _saved_model(artifacts: dict[str, bytes], run_id: str) -> dict[str, bytes]:
    marker = f"/{run_id}/artifacts/{SAVED_MODEL}"
    return {key.split(marker)[1]: content for key, content in artifacts.items() if marker in key}


def _examples(data: dict[str, bytes], known: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return rows to ask by dataset: held-out ones, one without any value, one with an unknown category."""
    found: dict[str, list[dict[str, Any]]] = {}
    for key, content in sorted(data.items()):
        if key.endswith("/evaluate/examples.json"):
            rows = [example["features"] for example in json.loads(content)["examples"][:6]]
            texts = {name for row in rows for name, value in row.items() if isinstance(value, str)}
            strange = {name: "never seen" if name in texts else value for name, value in rows[0].items()}
            found.setdefault(key.split("/")[1], [*rows, dict.fromkeys(rows[0]), strange])
    return found


def _answers(model: Path, instances: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the serving code answers, in its own environment."""
    done = subprocess.run(
        [environment_python("serving"), PREDICT, model],
        input=json.dumps(instances),
        env={"PYTHONPATH": str(ROOT / "containers" / "serving" / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def _facts(platform: AttachedPlatform, version: str) -> dict[str, Any]:
    facts = json.loads((platform.home.bundle / "platform.json").read_bytes())
    return {
        "version": version,
        "made": date.today().isoformat(),
        "git_sha": facts["git_sha"],
        "dataset": DATASET,
        "buckets": _buckets(platform),
    }


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, default=lambda value: value.isoformat())
    _write(path, f"{text}\n".encode())


def _check(platform: AttachedPlatform, target: Path) -> None:
    """Make sure that nothing tells of the machine that the set was made on; ports of loopback may.

    Raises:
        RuntimeError: something does.
    """
    private = {str(ROOT), str(platform.home.root), str(Path.home()), tempfile.gettempdir(), socket.gethostname()}
    words = re.compile("|".join(rf"(?<![\w-]){re.escape(word)}(?![\w-])" for word in private).encode())
    for path in sorted(path for path in target.rglob("*") if path.is_file()):
        if found := words.search(path.read_bytes()):
            raise RuntimeError(f"{path}: has {found[0].decode()!r} of this machine; normalise it in local/golden")
