"""What each image does for whoever starts it: with no right, no capability, and nothing to write to but /tmp."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mlplatform.storage import read_bytes, write_bytes
from tests.images.pipeline import Run
from tests.images.support import ROOT, Images, free_port

FIXTURES = ROOT / "tests" / "containers" / "serving" / "fixtures"


def document(uri: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(read_bytes(uri))
    return content


@pytest.mark.parametrize("name", ["trainer", "trainer_cuda", "deployer"])
def test_a_step_explains_itself_offline(images: Images, name: str) -> None:
    done = images.run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout or "validate" in done.stdout or "deploy" in done.stdout


@pytest.mark.parametrize("name", ["trainer", "trainer_cuda"])
def test_the_trainer_refuses_bad_input(images: Images, s3: dict[str, str], name: str) -> None:
    run = Run(f"bad-{name}".replace("_", "-"))
    run.land(b"no Parquet")
    run.write()
    done = images.run(name, *run.arguments("validate"), environment=s3, network="host")
    assert done.returncode == 64, done.stderr
    assert document(f"{run.prefix}/validate/error.json")["kind"] == "bad-input"


@pytest.mark.parametrize("name", ["trainer"])
def test_the_trainer_validates_and_prepares(prepared: Run, name: str) -> None:
    assert document(f"{prepared.prefix}/validate/result.json")
    assert document(f"{prepared.prefix}/prepare/result.json")


@pytest.mark.parametrize(
    ("name", "family", "params"),
    [
        ("trainer", "xgboost", {"n_estimators": 20}),
        ("trainer", "lightgbm", {"n_estimators": 20}),
        ("trainer", "sklearn", {}),
        ("trainer_cuda", "xgboost", {"n_estimators": 20}),
        ("trainer_cuda", "pytorch", {"epochs": 2, "width": 8, "layers": 1}),
    ],
)
def test_the_trainer_trains_each_family(
    images: Images, s3: dict[str, str], prepared: Run, mlflow: str, name: str, family: str, params: dict[str, Any]
) -> None:
    run = Run(f"{name}-{family}".replace("_", "-"), family, params, mlflow, prepared.objects, prepared.prefix)
    run.write()
    done = images.run(name, *run.arguments("train", "train/000"), environment=s3, network="host")
    assert done.returncode == 0, done.stderr
    (trial,) = document(f"{run.prefix}/train/000/result.json")["trials"]
    assert trial["status"] == "finished" or trial.get("metrics"), trial
    with urllib.request.urlopen(f"{mlflow}/health", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("name", ["trainer_cuda"])
def test_cuda_is_in_the_image_and_not_needed(images: Images, name: str) -> None:
    code = "import torch; print(torch.version.cuda, torch.cuda.is_available(), float(torch.ones(3) @ torch.ones(3)))"
    done = images.run(name, "-c", code, entrypoint="python")
    assert done.returncode == 0, done.stderr
    version, available, product = done.stdout.split()
    assert version != "None"
    assert (available, product) == ("False", "3.0")


@pytest.mark.parametrize("name", ["trainer"])
def test_the_small_trainer_has_no_torch(images: Images, name: str) -> None:
    assert "No module named 'torch'" in images.run(name, "-c", "import torch", entrypoint="python").stderr


@pytest.mark.parametrize("name", ["serving"])
def test_serving_predicts(images: Images, name: str, tmp_path: Path) -> None:
    expected = json.loads((FIXTURES / "logistic.json").read_text(encoding="utf-8"))
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(FIXTURES / "logistic.onnx", model / "model.onnx")
    (model / "manifest.json").write_text(json.dumps(expected["manifest"]), encoding="utf-8")
    model.chmod(0o755)
    address = f"http://127.0.0.1:{(port := free_port())}"
    environment = {"SAGEMAKER_BIND_TO_PORT": str(port), "SERVING_HOST": "127.0.0.1"}
    options = [f"--volume={model}:/opt/ml/model:ro"]
    with images.serve(name, f"{address}/ping", "serve", environment=environment, options=options) as container:
        body = json.dumps({"instances": expected["rows"]}).encode()
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            predictions = json.loads(answer.read())["predictions"]
        assert predictions == pytest.approx(expected["predictions"], abs=1e-5)
        assert is_healthy(images, container)


@pytest.mark.parametrize("name", ["serving", "trainer", "trainer_cuda"])
def test_every_engine_of_a_model_can_be_loaded(images: Images, name: str) -> None:
    code = (
        "import onnxruntime\n"
        "from modelformat import import_lightgbm, import_xgboost\n"
        "print(import_lightgbm().__version__, import_xgboost().__version__)"
    )
    done = images.run(name, "-c", code, entrypoint="python")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["serving"])
def test_serving_ends_on_a_damaged_model(images: Images, name: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    tmp_path.chmod(0o755)
    done = images.run(name, "serve", options=[f"--volume={tmp_path}:/opt/ml/model:ro"])
    assert done.returncode == 1
    assert "manifest.json" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["deployer"])
def test_the_deployer_refuses_a_bad_configuration(images: Images, s3: dict[str, str], name: str) -> None:
    prefix = "s3://data/runs/deployer"
    write_bytes(f"{prefix}/config.json", b'{"run_key": 3}')
    arguments = ["deploy", "--config", f"{prefix}/config.json", "--input", f"{prefix}/evaluate"]
    done = images.run(name, *arguments, "--output", f"{prefix}/deploy", environment=s3, network="host")
    assert done.returncode == 64, done.stderr
    assert document(f"{prefix}/deploy/error.json")["kind"] == "bad-config"


@pytest.mark.parametrize("name", ["deployer"])
def test_the_deployer_can_load_what_it_works_with(images: Images, name: str) -> None:
    code = "import deployer.deploy, deployer.sagemaker_api, sagemaker.core.resources"
    done = images.run(name, "-c", code, entrypoint="python")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["mlflow"])
def test_mlflow_is_healthy(images: Images, mlflow: str, name: str) -> None:
    with urllib.request.urlopen(f"{mlflow}/version", timeout=10) as answer:
        assert answer.read().decode().count(".") == 2
    container = images.engine.run("ps", "--quiet", "--filter", f"ancestor={images.reference(name)}").split()[0]
    assert is_healthy(images, container)


@pytest.mark.parametrize("name", ["mlflow"])
def test_mlflow_refuses_to_start_without_its_settings(images: Images, name: str) -> None:
    done = images.run(name)
    assert done.returncode == 64
    assert "set MLFLOW_BACKEND_STORE_URI" in done.stderr


def is_healthy(images: Images, container: str) -> bool:
    """Run the check that the image declares, as Docker does."""
    declared = images.engine.run("inspect", "--format", "{{json .Config.Healthcheck.Test}}", container)
    kind, *command = json.loads(declared)
    assert kind == "CMD"
    return images.engine.attempt("exec", container, *command).returncode == 0
