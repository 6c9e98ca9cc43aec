"""A training that is stopped twice, by a drained node and by a lost one, ends with the model of an undisturbed one.

The real trainer in pods of the local Kubernetes API, with an S3 and an MLflow server of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.platform.ports import any_free_port
from mlplatform.config.base import Scalar
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.loading import load_family
from mlplatform.documents.profiles import BINS, DataProfile, NumberProfile
from mlplatform.documents.results import PrepareResult, Split, TrainResult
from mlplatform.documents.run import RunConfig, Trial
from tests.processes import server

ROOT = Path(__file__).parents[3]
ENVS = ROOT / ".local" / "envs"
IMAGE = "registry/trainer:test"
NAME = "parcels"
FEATURES = [f"f{index}" for index in range(6)]
ROUNDS = 1500
STOPPED, KILLED = 143, 137
pytestmark = pytest.mark.skipif(
    not ((ENVS / "trainer").exists() and (ENVS / "mlflow").exists()),
    reason="no environment trainer or mlflow: run `make setup`",
)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that lead to an S3 with the buckets."""
    port = any_free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [str(ENVS / "dev/bin/python"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("s3") / "log"
    with server(command, f"{environment['AWS_ENDPOINT_URL']}/moto-api/", log):
        yield environment


@pytest.fixture(scope="module")
def s3(aws: dict[str, str]) -> Any:
    client = boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    for bucket in ("data", "artifacts"):
        client.create_bucket(Bucket=bucket)
    return client


@pytest.fixture(scope="module")
def tracking(aws: dict[str, str], s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server."""
    folder, port = tmp_path_factory.mktemp("mlflow"), any_free_port()
    command = [str(ENVS / "mlflow/bin/mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/db", "--artifacts-destination", "s3://artifacts/mlflow"]
    environment = {**aws, "MLFLOW_S3_ENDPOINT_URL": aws["AWS_ENDPOINT_URL"]}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with server(command, f"http://127.0.0.1:{port}/health", folder / "log", **environment):
        yield f"http://127.0.0.1:{port}"


def profile(values: dict[str, np.ndarray]) -> DataProfile:
    columns = {
        name: NumberProfile(
            missing=0,
            mean=float(column.mean()),
            deviation=float(column.std()),
            minimum=float(column.min()),
            maximum=float(column.max()),
            histogram=np.histogram(column, BINS)[0].tolist(),
        )
        for name, column in values.items()
    }
    return DataProfile(rows=len(values[FEATURES[0]]), columns=dict(columns), classes=["0", "1"])


@pytest.fixture(scope="module")
def prepared(s3: Any, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prepared data and a configuration on S3; returns their prefix."""
    draw = np.random.default_rng(1)
    prefix, folder = f"runs/{NAME}/k1", tmp_path_factory.mktemp("prepared")
    splits: dict[str, Split] = {}
    for name, rows in {"train": 20_000, "validation": 2_000, "test": 100}.items():
        values = {feature: draw.normal(size=rows) for feature in FEATURES}
        noise = draw.normal(size=rows)
        target = (values["f0"] * values["f1"] + values["f2"] + noise > 0).astype(float)
        pq.write_table(pa.table({**values, "late": target}), folder / f"{name}.parquet")
        s3.upload_file(str(folder / f"{name}.parquet"), "data", f"{prefix}/prepare/{name}.parquet")
        share = float(target.mean())
        splits[name] = Split(
            uris=[f"s3://data/{prefix}/prepare/{name}.parquet"],
            rows=rows,
            class_shares={"0": 1 - share, "1": share},
            target_mean=share,
        )
        if name == "train":
            put(s3, f"{prefix}/prepare/profile.json", profile(values))
    now = datetime.now(UTC)
    uri = f"s3://data/{prefix}/prepare/profile.json"
    result = PrepareResult(
        run_key="k1",
        started_at=now,
        finished_at=now,
        engine="duckdb",
        profile_uri=uri,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
    )
    put(s3, f"{prefix}/prepare/result.json", result)
    model = ModelConfig.model_validate(
        {
            "name": NAME,
            "description": "Whether a parcel arrives late.",
            "owner": "tests",
            "registered_model": NAME,
            "task": "binary",
            "tables": {"parcels": {"trigger": True, "columns": {"late": {"type": "integer"}}}},
            "query": "select 1",
            "target": "late",
            "features": {feature: {"type": "number"} for feature in FEATURES},
            "split": {"kind": "random", "key": ["f0"]},
            "metric": "roc_auc",
            "families": {"xgboost": {}},
            "policy": {"minimum_quality": 0.5},
        }
    )
    # Each round draws rows and columns by chance: a training that forgot where it was would draw others.
    params: dict[str, Scalar] = {
        "n_estimators": ROUNDS,
        "early_stopping_rounds": ROUNDS,
        "subsample": 0.7,
        "colsample_bytree": 0.7,
    }
    config = RunConfig(
        run_key="k1",
        seed=3,
        family=load_family("xgboost", ROOT),
        model=model,
        policy=model.policy,
        tracking_uri=tracking,
        region="us-east-1",
        checkpoint_seconds=0.3,
        trials=[Trial(index=0, params=params)],
    )
    put(s3, f"{prefix}/config.json", config)
    return prefix


def put(s3: Any, key: str, document: Any) -> None:
    s3.put_object(Bucket="data", Key=key, Body=document.model_dump_json().encode())


class Training:
    """Attempts at one training, each in a pod of its own."""

    def __init__(self, pods: Any, s3: Any, aws: dict[str, str], prefix: str, output: str) -> None:
        self.pods, self.s3, self.output = pods, s3, f"{prefix}/{output}"
        images = json.loads(pods.server.images.read_text())
        source = [str(ROOT / part) for part in ("dags", "containers/trainer/src", "containers/serving/src")]
        images[IMAGE] = {
            "entrypoint": [str(ENVS / "trainer/bin/python"), "-m", "trainer"],
            "env": {"PYTHONPATH": os.pathsep.join(source), "TRAINER_THREADS": "1", **aws},
        }
        pods.server.images.write_text(json.dumps(images))
        step = ["train", "--config", f"s3://data/{prefix}/config.json", "--input", f"s3://data/{prefix}/prepare"]
        self.arguments = [*step, "--output", f"s3://data/{self.output}"]

    def start(self) -> str:
        container = {"image": IMAGE, "args": self.arguments, "terminationMessagePolicy": "FallbackToLogsOnError"}
        labels = {"case": self.output.rsplit("/", 1)[-1]}
        name: str = self.pods.create(container=container, labels=labels, terminationGracePeriodSeconds=30)
        return name

    def states(self) -> list[str]:
        """Names of the states that are saved, the newest last."""
        listed = self.s3.list_objects_v2(Bucket="data", Prefix=f"{self.output}/checkpoints/").get("Contents", [])
        return sorted(entry["Key"].rsplit("/", 1)[-1] for entry in listed if entry["Key"].endswith(".tar"))

    def started_and_saved(self) -> str:
        """Start an attempt and wait until it has saved a state that is newer than all before."""
        before = self.states()
        name = self.start()
        deadline = time.monotonic() + 120
        while not (after := self.states()) or after[-1] <= (before or [""])[-1]:
            phase = self.pods.get(name)["status"]["phase"]
            assert phase in ("Pending", "Running"), f"{phase} before it could be stopped:\n{self.pods.log(name)}"
            assert time.monotonic() < deadline, self.pods.log(name)
            time.sleep(0.05)
        return name

    def result(self) -> TrainResult:
        body = self.s3.get_object(Bucket="data", Key=f"{self.output}/result.json")["Body"].read()
        return TrainResult.model_validate_json(body)


def exit_code(pod: dict[str, Any]) -> int:
    code: int = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
    return code


def succeed(training: Training) -> str:
    """Run an attempt to its end; return its log."""
    name = training.start()
    pod = training.pods.wait(name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"), 180)
    log: str = training.pods.log(name)
    assert exit_code(pod) == 0, log
    return log


def test_a_training_that_is_stopped_twice_gives_the_same_model(
    pods: Any, s3: Any, aws: dict[str, str], tracking: str, prepared: str
) -> None:
    disturbed = Training(pods, s3, aws, prepared, "disturbed")

    # A node that is drained: SIGTERM, and time to save the state.
    first = disturbed.started_and_saved()
    pods.core.delete_namespaced_pod(first, pods.namespace)
    pods.gone(first, 40)
    assert pods.history(first)["exit_code"] == STOPPED
    saved = disturbed.states()[-1]

    # A node that is lost: no signal. What was done since the last state is lost with it.
    second = disturbed.started_and_saved()
    assert "goes on after step" in pods.log(second)
    assert disturbed.states()[-1] > saved, "the second attempt began anew"
    pods.fault("evict", "disturbed")
    pod = pods.finish(second)
    assert (pod["status"]["reason"], exit_code(pod)) == ("Evicted", KILLED)
    with pytest.raises(s3.exceptions.NoSuchKey):
        disturbed.result()

    assert "goes on after step" in succeed(disturbed)
    (trial,) = disturbed.result().trials
    assert trial.status == "succeeded"
    assert disturbed.states() == [], "states are of no use any more"

    # One MLflow run, whole: each step's metric once, as an undisturbed training logs it.
    client = mlflow.MlflowClient(tracking_uri=tracking)
    experiment = client.get_experiment_by_name(NAME)
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (trial.run_id, "FINISHED")
    history = client.get_metric_history(run.info.run_id, "validation/roc_auc")
    steps = [metric.step for metric in history]
    assert sorted(steps) == list(range(ROUNDS // 10 - 1)), "ten rounds each; of the last step the model tells"

    undisturbed = Training(pods, s3, aws, prepared, "undisturbed")
    assert "goes on after step" not in succeed(undisturbed)
    (same,) = undisturbed.result().trials
    assert same.model_digest == trial.model_digest
    assert same.metrics == trial.metrics
