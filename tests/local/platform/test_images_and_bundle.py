from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from local.images import ImageRegistry
from local.platform import bundle, home
from local.platform.facts import Facts, Secrets
from local.platform.home import ROOT, Home, PlatformError
from local.platform.images import RECIPES, image, image_if_set_up, references, source_digest

PORTS = {"postgres": 1, "aws": 2, "kubernetes": 3, "mlflow": 4, "airflow": 5}


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    home = Home(tmp_path / "home")
    home.claim()
    return Facts(home, PORTS, Secrets.generate())


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    root = tmp_path / "sources"
    (root / "package").mkdir(parents=True)
    (root / "package" / "code.py").write_text("x = 1")
    (root / "lock").write_text("pinned")
    return root


def test_a_digest_changes_with_content_and_names_and_only_with_them(sources: Path) -> None:
    wanted = ("package", "lock")
    first = source_digest(sources, wanted)
    assert re.fullmatch(r"[0-9a-f]{12}", first)
    assert source_digest(sources, ("lock", "package")) == first

    (sources / "package" / "__pycache__").mkdir()
    (sources / "package" / "__pycache__" / "code.pyc").write_text("compiled")
    (sources / "unrelated").touch()
    (sources / "lock").touch()
    assert source_digest(sources, wanted) == first

    (sources / "package" / "code.py").write_text("x = 2")
    second = source_digest(sources, wanted)
    (sources / "package" / "code.py").rename(sources / "package" / "other.py")
    assert len({first, second, source_digest(sources, wanted)}) == 3


def test_moving_bytes_between_files_changes_the_digest(sources: Path) -> None:
    (sources / "package" / "a").write_text("12")
    (sources / "package" / "b").write_text("3")
    first = source_digest(sources, ["package"])
    (sources / "package" / "a").write_text("1")
    (sources / "package" / "b").write_text("23")
    assert source_digest(sources, ["package"]) != first


def test_a_missing_source_is_named(sources: Path) -> None:
    with pytest.raises(PlatformError, match=r"missing\.lock is missing"):
        source_digest(sources, ["package", "missing.lock"])


def test_the_trainer_is_another_image_when_the_model_format_changes() -> None:
    """Training writes the format that serving reads; both images depend on it."""
    assert "containers/serving/src/modelformat" in RECIPES["trainer"].sources
    assert "containers/serving/src" in RECIPES["serving"].sources


def test_references_have_the_form_sagemaker_wants() -> None:
    for name, reference in references().items():
        registry = r"\d{12}\.dkr\.ecr\.us-east-1\.amazonaws\.com"
        assert re.fullmatch(rf"{registry}/mlplatform/{name.replace('_', '-')}:[0-9a-f]{{12}}", reference)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_an_image_runs_the_components_own_interpreter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = image(name, "/home/of/platform")
    recipe = RECIPES[name]
    python = ROOT / ".local" / "envs" / recipe.environment / "bin" / "python"
    assert found.entrypoint == [str(python), "-m", recipe.package]
    dockerfile = ROOT / "containers" / recipe.package / "Dockerfile"
    assert f"USER {found.user}" in dockerfile.read_text().splitlines()
    assert "PYTHONDONTWRITEBYTECODE" not in found.env
    assert not any(key.startswith("AWS_") for key in found.env)
    for folder in found.env["PYTHONPATH"].split(":"):
        assert Path(folder).is_dir()


def test_an_image_that_was_not_set_up_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PyTorch with CUDA is several gigabytes: nobody gets it who does not use it."""
    monkeypatch.setattr(home, "ENVS", tmp_path)
    done = subprocess.run(image_if_set_up("trainer_cuda", "m").entrypoint, capture_output=True, text=True)
    assert done.returncode == 64
    assert "python3 local/bootstrap.py trainer-cuda" in done.stderr
    with pytest.raises(PlatformError, match="the environment 'trainer' is not there"):
        image_if_set_up("trainer", "m")


def test_the_bundle_links_the_project_and_has_the_facts(facts: Facts) -> None:
    bundle.assemble(facts)
    bundle.check_settings(facts.home.bundle)
    names = {path.name for path in facts.home.bundle.iterdir()}
    assert {"mlplatform", "config", "kubeconfig", "platform.json"} <= names
    assert "__pycache__" not in names
    assert (facts.home.bundle / "mlplatform").resolve() == ROOT / "dags" / "mlplatform"

    platform = json.loads((facts.home.bundle / "platform.json").read_text())
    assert platform["mlflow"]["tracking_uri"] == "http://127.0.0.1:4"
    registry = ImageRegistry(facts.home.images_file)
    for name, reference in platform["images"].items():
        assert registry.find(reference) == image(name, str(facts.home.root))


def test_assembling_again_follows_the_project(facts: Facts, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "dags").mkdir(parents=True)
    (project / "config").mkdir()
    (project / "dags" / "old.py").touch()
    (project / "dags" / "mlplatform").symlink_to(ROOT / "dags" / "mlplatform")
    (project / "containers").symlink_to(ROOT / "containers")
    bundle.assemble(facts, project)
    assert (facts.home.bundle / "old.py").is_symlink()
    (project / "dags" / "old.py").rename(project / "dags" / "new.py")
    bundle.assemble(facts, project)
    assert not (facts.home.bundle / "old.py").is_symlink()
    assert (facts.home.bundle / "new.py").is_symlink()


def test_a_mistake_in_the_configuration_is_found_before_anything_starts(facts: Facts) -> None:
    bundle.assemble(facts)
    path = facts.home.bundle / "platform.json"
    content = json.loads(path.read_text())
    content["aws"]["account_id"] = "12"
    path.write_text(json.dumps(content))
    with pytest.raises(PlatformError, match=r"aws\.account_id"):
        bundle.check_settings(facts.home.bundle)


def test_secrets_are_for_this_user_only_and_differ_between_platforms(facts: Facts) -> None:
    facts.write_secrets()
    assert stat.S_IMODE(facts.home.secrets_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(facts.home.root.stat().st_mode) == 0o700
    assert Secrets.generate() != facts.secrets


def test_services_inherit_nothing_that_would_change_them(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    from local.platform import airflow

    for name in ("KUBECONFIG", "AWS_PROFILE", "HTTP_PROXY", "PYTHONDONTWRITEBYTECODE", "AIRFLOW__CORE__EXECUTOR"):
        monkeypatch.setenv(name, "of the caller")
    environment = airflow.environment(facts)
    assert "of the caller" not in environment.values()
    assert "KUBECONFIG" not in environment
