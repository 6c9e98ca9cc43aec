"""What is in the images, and what is not."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cloud import docker, sbom
from cloud import images as release
from tests.images.index import PASSWORD
from tests.images.support import COMMIT, ENVS, NAMES, ROOT, Images
from tests.images.tree import Tree, read

pytestmark = pytest.mark.parametrize("name", NAMES)

SIZES: dict[str, int] = yaml.safe_load((Path(__file__).parent / "sizes.yaml").read_text(encoding="utf-8"))
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(None if error is None else repr(error))
"""


_TREES: dict[str, Tree] = {}


@pytest.fixture
def tree(images: Images, name: str) -> Tree:
    if name not in _TREES:
        _TREES[name] = read(images, images.reference(name), PASSWORD)
    return _TREES[name]


def inspected(images: Images, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(images.engine.run("image", "inspect", images.reference(name)))[0]
    return found


def locked(name: str) -> dict[str, str]:
    """Return what an image's lock file means on its platform: versions by package."""
    recipe = release.IMAGES[name]
    suffix = f"-{recipe.arguments['VARIANT']}" if "VARIANT" in recipe.arguments else ""
    text = (ROOT / "containers" / recipe.folder / f"requirements{suffix}.lock").read_text(encoding="utf-8")
    environment = {key: str(value) for key, value in default_environment().items()}
    requirements = [Requirement(line.rstrip("\\ ")) for line in re.findall(r"^[a-zA-Z].*", text, re.MULTILINE)]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


def test_says_what_it_is(images: Images, name: str) -> None:
    config = inspected(images, name)["Config"]
    assert config["User"] == "10001:10001"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"mlplatform/{release.IMAGES[name].repository}"
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["org.opencontainers.image.base.name"] == release.base_image(ROOT).partition("@")[0]
    assert re.fullmatch(r"\d+\.\d+\.\d+", labels["org.opencontainers.image.version"])
    assert labels["org.opencontainers.image.description"]


def test_runs_as_a_named_user_that_owns_nothing(images: Images, name: str, tree: Tree) -> None:
    code = "import getpass, os; print(getpass.getuser(), os.getuid(), os.getgid(), os.path.expanduser('~'))"
    done = images.run(name, "-c", code, entrypoint="python")
    assert done.stdout.split() == ["app", "10001", "10001", "/tmp"], done.stderr
    assert [path for path, member in tree.members.items() if member.uid == 10001 or member.gid == 10001] == []


def test_nothing_that_matters_can_be_written(images: Images, name: str, tree: Tree) -> None:
    ours = {path: m for path, m in tree.members.items() if path.startswith(("opt/", "usr/local/")) and not m.is_link}
    assert [path for path, m in ours.items() if m.mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID)] == []
    done = images.run(name, "-c", "open('/opt/app/x', 'w')", entrypoint="python")
    assert "Read-only file system" in done.stderr


def test_holds_no_installer_tests_caches_or_compiler_input(tree: Tree, name: str) -> None:
    kept = "/numpy/_core/tests"  # imported by NumPy itself
    unwanted = re.compile(
        r"(^|/)(pip|ensurepip|setuptools-dist|pip-[\d.]+\.dist-info|\.cache|uv|tests)$|\.a$|^(build|tools|layers)(/|$)"
        r"|\.whl$|(^|/)(pip\.conf|uv\.toml|\.netrc|\.pypirc)$|^usr/local/bin/pip"
    )
    ours = [path for path in tree.members if path.startswith(("opt/", "usr/local/", "root/", "tmp/", "home/"))]
    assert [path for path in ours if unwanted.search(path) and kept not in path] == []
    assert [path for path in tree.members if path.startswith(("build", "tools", "layers"))] == []


def test_is_byte_compiled_without_looking_at_sources(images: Images, name: str, tree: Tree) -> None:
    sources = {path for path in tree.members if path.startswith("opt/") and path.endswith(".py")}
    compiled = {path for path in tree.members if path.startswith("opt/") and path.endswith(".pyc")}
    assert len(compiled) > 0.98 * len(sources)  # some packages bring templates that are no Python
    code = (
        "import pathlib, sys\n"
        "flags = {p.read_bytes()[4] for p in pathlib.Path('/opt').rglob('*.pyc')}\n"
        "print(flags, sys.flags.dont_write_bytecode)"
    )
    assert images.run(name, "-c", code, entrypoint="python").stdout.strip() == "{1} 1"  # PEP 552: hash, unchecked


def test_keeps_no_secret_of_its_build(images: Images, name: str, tree: Tree) -> None:
    assert len(tree.members) > 5000
    assert tree.found == []
    assert not [path for path in tree.members if path.startswith("run/secrets/")]
    history = images.engine.run("history", "--no-trunc", "--format", "{{json .}}", images.reference(name))
    for text in (history, json.dumps(inspected(images, name))):
        for word in (PASSWORD, "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "SSL_CERT_FILE", "PIP_CERT"):
            assert word not in text


def test_is_no_larger_than_agreed(images: Images, name: str, record_property: Any) -> None:
    size = inspected(images, name)["Size"] / 1e6
    record_property("megabytes", round(size))
    print(f"{name}: {size:.0f} MB")
    assert size <= SIZES[name], f"{size:.0f} MB"


def test_lists_what_is_installed_and_that_is_what_is_locked(images: Images, name: str) -> None:
    code = (
        "import json, pathlib, platform, subprocess\n"
        "query = ['dpkg-query', '--show', '--showformat', r'${Package} ${Version}\\n']\n"
        "debian = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()\n"
        f"text = pathlib.Path({sbom.IN_IMAGE!r}).read_text()\n"
        "print(json.dumps([text, debian, platform.python_version()]))"
    )
    done = images.run(name, "-c", code, entrypoint="python")
    assert done.returncode == 0, done.stderr
    text, debian, python = json.loads(done.stdout)
    components = [component for component in json.loads(text)["components"] if "purl" in component]
    packages = {
        canonicalize_name(component["name"]): component["version"]
        for component in components
        if component["purl"].startswith("pkg:pypi/")
    }
    assert packages == locked(name)
    assert [f"{c['name']} {c['version']}" for c in components if c["purl"].startswith("pkg:deb/")] == sorted(debian)
    assert [c["version"] for c in components if c["name"] == "python"] == [python]


def invalid(document: str) -> str:
    """Return what CycloneDX's own schema has against a document."""
    command = [str(ENVS / "images/bin/python"), "-c", VALIDATE]
    return subprocess.run(command, input=document, capture_output=True, text=True).stderr


def test_a_release_takes_the_list_out_of_the_image(
    images: Images, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable, value in images.engine.environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(docker, "_command", lambda arguments: images.engine.command(*arguments))
    document = sbom.read(ROOT, images.reference(name), release.PLATFORM)
    assert document == json.loads(images.run(name, sbom.IN_IMAGE, entrypoint="cat").stdout)
    sbom.write(tmp_path / "x.json", "example.com/x@sha256:0", document)
    assert sbom.describes(tmp_path / "x.json", "example.com/x@sha256:0")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert invalid(text) == ""
    written = json.loads(text)
    del written["metadata"]["component"]  # nothing else was added, so that what the image holds is as valid
    assert written == document
    assert "is not one of" in invalid(json.dumps({**document, "bomFormat": "x", "components": []}))


def test_the_same_commit_gives_the_same_layers(images: Images, name: str) -> None:
    if name != "serving":
        pytest.skip("tried with one image: all are made by the same steps")
    first, again = images.reference(name), "mlplatform/serving:again"
    images.build(name, again, "--no-cache")
    try:
        layers = [inspected_layers(images, reference) for reference in (first, again)]
        # The second from the root is the one that removes pip: nothing but marks, which older builders date.
        different = [number for number, pair in enumerate(zip(*layers, strict=True)) if pair[0] != pair[1]]
        assert set(different) <= {1}
        assert len(layers[0]) == 5
        trees = [read(images, reference, "import onnxruntime", digests=True) for reference in (first, again)]
        assert all("opt/app/serving/__main__.py" in tree.members for tree in trees)
        assert any(path.startswith("opt/app/") for path in trees[0].found)  # a text that is there is found
        for tree in trees:
            tree.members["etc"] = replace(tree.members["etc"], modified=0)  # where Docker mounts its own files
        assert trees[0] == trees[1]
    finally:
        images.engine.run("image", "rm", again)


def inspected_layers(images: Images, reference: str) -> list[str]:
    found: list[str] = json.loads(
        images.engine.run("image", "inspect", "--format", "{{json .RootFS.Layers}}", reference)
    )
    return found
