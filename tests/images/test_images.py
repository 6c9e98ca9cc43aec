"""What is in the images, and what is not."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
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

pytestmark = pytest.mark.parametrize("name", NAMES)

SIZES: dict[str, int] = yaml.safe_load((Path(__file__).parent / "sizes.yaml").read_text(encoding="utf-8"))
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(None if error is None else repr(error))
"""


@dataclass(frozen=True)
class Tree:
    """An image's files as a container sees them."""

    members: dict[str, tarfile.TarInfo]
    leaks: list[str]


_TREES: dict[str, Tree] = {}


@pytest.fixture
def tree(images: Images, name: str) -> Tree:
    if name not in _TREES:
        _TREES[name] = Tree({}, [])
        for member, content in exported(images, images.reference(name)):
            _TREES[name].members[member.name] = member
            if PASSWORD.encode() in content:
                _TREES[name].leaks.append(member.name)
    return _TREES[name]


def exported(images: Images, reference: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield every file of an image with its content; no container is started for it."""
    container = images.engine.run("create", reference).strip()
    command = images.engine.command("export", container)
    process = subprocess.Popen(command, env=images.engine.environment(), stdout=subprocess.PIPE)
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|", bufsize=1 << 20) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                yield member, file.read() if file else b""
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        images.engine.run("rm", container)


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
    assert [member.name for member in tree.members.values() if member.uid == 10001 or member.gid == 10001] == []


def test_nothing_that_matters_can_be_written(images: Images, name: str, tree: Tree) -> None:
    ours = [member for path, member in tree.members.items() if path.startswith(("opt/", "usr/local/"))]
    assert [m.name for m in ours if m.mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID) and not m.issym()] == []
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
    assert tree.leaks == []
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
    assert invalid(text) == ""
    assert "is not one of" in invalid(text.replace('"CycloneDX"', '"x"', 1))


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
    sbom.write(tmp_path / "x.json", "example.com/x@sha256:0", document)
    assert sbom.describes(tmp_path / "x.json", "example.com/x@sha256:0")
    assert invalid((tmp_path / "x.json").read_text(encoding="utf-8")) == ""


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
        assert digests(images, first) == digests(images, again)
    finally:
        images.engine.run("image", "rm", again)


def inspected_layers(images: Images, reference: str) -> list[str]:
    found: list[str] = json.loads(
        images.engine.run("image", "inspect", "--format", "{{json .RootFS.Layers}}", reference)
    )
    return found


def digests(images: Images, reference: str) -> dict[str, tuple[Any, ...]]:
    made_by_docker = {".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"}
    folders = {"dev", "dev/pts", "dev/shm", "etc", "proc", "sys"}
    return {
        member.name: (
            *(hashlib.sha256(content).hexdigest(), member.mode, member.uid, member.gid, member.linkname, member.type),
            None if member.name in folders else member.mtime,
        )
        for member, content in exported(images, reference)
        if member.name not in made_by_docker
    }
