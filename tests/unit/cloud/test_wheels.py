from __future__ import annotations

import hashlib
import os
import re
import zipfile
from pathlib import Path

import pytest

from cloud import wheels
from cloud.errors import CloudError
from cloud.terraform import ROOT
from local import bootstrap


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pip")
    wheels.pip_in(folder)
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def root(tmp_path: Path, pip: Path) -> Path:
    (tmp_path / "dags").mkdir()
    (tmp_path / wheels.FOLDER).mkdir(parents=True)
    (tmp_path / wheels.FOLDER / "pip").symlink_to(pip)
    return tmp_path


def wheel(folder: Path, name: str, tag: str = "py3-none-any", content: str = "") -> Path:
    """Put a package into the folder, at version 1."""
    path = folder / f"{name}-1-{tag}.whl"
    information = f"{name}-1.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{name}.py", content)
        packed.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        packed.writestr(f"{information}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        packed.writestr(f"{information}/RECORD", "")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock(root: Path, *files: Path) -> None:
    """Write what MWAA installs, as `make lock` does."""
    lines = ["--no-index\n", "--find-links /usr/local/airflow/plugins\n"]
    for name in sorted({file.name.partition("-")[0] for file in files}):
        hashes = [f" \\\n    --hash=sha256:{sha256(file)}" for file in files if file.name.startswith(f"{name}-")]
        lines.append(f"{name.replace('_', '-')}==1{''.join(hashes)}\n")
    (root / wheels.REQUIREMENTS).write_text("".join(lines))


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as packed:
        return packed.namelist()


def test_the_archive_has_the_wheels_that_mwaa_can_install(root: Path, index: Path) -> None:
    pure = wheel(index, "z_pure")
    fits = wheel(index, "compiled", "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64")
    lock(
        root,
        pure,
        fits,
        wheel(index, "compiled", "cp312-cp312-manylinux_2_39_x86_64"),
        wheel(index, "compiled", "cp313-cp313-manylinux_2_17_x86_64"),
        wheel(index, "compiled", "cp312-cp312-manylinux_2_17_aarch64"),
    )
    said: list[str] = []
    made = wheels.build(root, said.append)
    assert made == wheels.archive(root)
    assert made.name == f"plugins-{sha256(root / wheels.REQUIREMENTS)[:16]}.zip"  # as the Terraform module has it
    assert names(made) == [fits.name, pure.name]
    assert said == [
        "fetching the 2 Python packages of Airflow, which MWAA cannot fetch itself: a minute, once",
        f"2 wheels, 0 MiB: {made.relative_to(root)}",
    ]


def test_the_same_lock_gives_the_same_bytes(root: Path, index: Path) -> None:
    files = [wheel(index, "one", content="x = 1"), wheel(index, "two")]
    lock(root, *files)
    first = wheels.build(root, print).read_bytes()
    wheels.archive(root).unlink()
    for number, file in enumerate(files):
        os.utime(file, (number, number))
    assert wheels.build(root, print).read_bytes() == first


def test_an_archive_that_is_there_is_taken(root: Path, index: Path) -> None:
    lock(root, wheel(index, "one"))
    made = wheels.build(root, print)
    (index / "one-1-py3-none-any.whl").unlink()
    said: list[str] = []
    assert wheels.build(root, said.append) == made
    assert said == []


def test_the_archive_of_other_requirements_goes(root: Path, index: Path) -> None:
    lock(root, wheel(index, "one"))
    first = wheels.build(root, print)
    lock(root, wheel(index, "two"))
    second = wheels.build(root, print)
    assert (first.exists(), names(second)) == (False, ["two-1-py3-none-any.whl"])


@pytest.mark.parametrize("name", ["only-1.tar.gz", "only-1-cp312-cp312-manylinux_2_39_x86_64.whl"])
def test_a_package_without_a_wheel_for_mwaa_is_named(root: Path, index: Path, name: str) -> None:
    # The sources, or what was compiled for a later system.
    source = wheel(index, "only").rename(index / name)
    lock(root, wheel(index, "one"), source)
    with pytest.raises(
        CloudError, match=r"^only==1 has no wheel that MWAA can install .* in dags/requirements\.in, `make"
    ):
        wheels.build(root, print)
    assert not list((root / wheels.FOLDER).glob("*.zip"))


def test_a_package_that_is_not_what_was_locked_is_refused(root: Path, index: Path) -> None:
    lock(root, wheel(index, "one"))
    wheel(index, "one", content="import os  # something else")
    with pytest.raises(CloudError, match=r"(?s)dags/requirements\.txt could not be fetched:.*DO NOT MATCH THE HASHES"):
        wheels.build(root, print)
    assert not list((root / wheels.FOLDER).glob("*.zip"))


def test_wheels_are_compared_with_the_lock_again(index: Path) -> None:
    one, two, three = (wheel(index, name) for name in ("one", "two_and_more", "three"))
    pins = {"one": frozenset({sha256(one)}), "two-and-more": frozenset({"0" * 64}), "four": frozenset({"0" * 64})}
    assert wheels.unlike(pins, [one, two, three]) == [
        "two_and_more-1-py3-none-any.whl is not what dags/requirements.txt has the hash of: do not use it",
        "three-1-py3-none-any.whl is not in dags/requirements.txt",
        "four of dags/requirements.txt has no wheel here",
    ]
    assert wheels.unlike({"one": pins["one"]}, [one]) == []


@pytest.mark.parametrize("line", ["one==1", "one>=1 --hash=sha256:" + "0" * 64, "./one.whl --hash=sha256:" + "0" * 64])
def test_what_is_not_locked_is_refused(line: str) -> None:
    with pytest.raises(
        CloudError, match=r"dags/requirements\.txt: .* is no locked package: `make lock` writes the file"
    ):
        wheels.hashes_by_package(f"# A comment.\n\n{line}\n")


@pytest.mark.parametrize(
    ("address", "actions", "uploaded"),
    [
        (wheels.OBJECT, ["create"], True),
        (wheels.OBJECT, ["update"], True),
        (wheels.OBJECT, ["delete", "create"], True),
        (wheels.OBJECT, ["no-op"], False),
        (wheels.OBJECT, ["delete"], False),
        ("module.platform.module.airflow.aws_s3_object.startup", ["create"], False),
    ],
)
def test_wheels_are_wanted_when_a_plan_uploads_them(address: str, actions: list[str], uploaded: bool) -> None:
    assert wheels.uploaded({"resource_changes": [{"address": address, "change": {"actions": actions}}]}) is uploaded


# --- The project's own packages ---------------------------------------------------------------


def versions(text: str) -> dict[str, str]:
    return {
        name.lower().replace("_", "-").replace(".", "-"): version
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;\\\n]+)", text, re.MULTILINE)
    }


def test_airflow_starts_without_an_index() -> None:
    text = (ROOT / wheels.REQUIREMENTS).read_text()
    assert text.startswith(bootstrap.MWAA_OPTIONS)
    assert [line for line in text.splitlines() if line.startswith("-")] == [
        "--no-index",
        "--find-links /usr/local/airflow/plugins",
        '--constraint "/usr/local/airflow/dags/constraints.txt"',
    ]


def test_what_mwaa_installs_is_locked_and_what_the_dags_were_tried_with() -> None:
    text = (ROOT / wheels.REQUIREMENTS).read_text()
    locked = versions(text)
    assert wheels.hashes_by_package(wheels.locked(text)).keys() == locked.keys()
    assert versions((ROOT / wheels.SOURCE).read_text()).items() <= locked.items()
    assert locked.items() <= versions((ROOT / "local/airflow/requirements.lock").read_text()).items()
    # pip refuses what the constraints do not allow.
    allowed = versions((ROOT / "dags/constraints.txt").read_text())
    assert {
        name: (locked[name], allowed[name]) for name in locked.keys() & allowed if locked[name] != allowed[name]
    } == {}
