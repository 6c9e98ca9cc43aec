"""The DAG bundle: which files of the project Airflow needs, and whether they are fit to be pushed.

The bundle is ``dags/`` and, as ``dags/config/``, ``config/``. Beside it in the bucket lie a few files that
Terraform writes; they are read here and never written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cloud import wheels
from cloud.datasets import Pool
from cloud.errors import CloudError

PREFIX = "dags/"
PLATFORM = f"{PREFIX}platform.json"

# Terraform's keys in the bucket, and the project's file each of them is a copy of, if it is one.
# The environment has to be told of a new version of these (it then updates itself for half an hour),
# which only Terraform can do.
TERRAFORM_COPIES = {
    f"{PREFIX}constraints.txt": "dags/constraints.txt",
    "requirements/requirements.txt": "dags/requirements.txt",
    "startup/startup.sh": "dags/startup.sh",
}
TERRAFORM_KEYS = frozenset({PLATFORM, f"{PREFIX}kubeconfig", wheels.KEY, *TERRAFORM_COPIES})

_LIBRARY = f"{PREFIX}mlplatform/"
_IGNORE_FILE = ".airflowignore"
_OTHERS_CONFIG = frozenset({"kubernetes", "schema"})  # for kubectl and for editors; no DAG reads them
_NEVER = frozenset({"__pycache__", "tests"})

# Runs in an interpreter of its own, so that the library that is about to be pushed reads the configuration
# that is about to be pushed. The settings of every environment are checked, and what each dataset lays over them: a
# mistake that only another environment would find should not wait there for its turn.
_CHECK_SETTINGS = """
import json, sys
from pathlib import Path
bundle = Path(sys.argv[1])
sys.path.insert(0, str(bundle))
from mlplatform.config import loading
from mlplatform.errors import ConfigError
facts = json.loads((bundle / "platform.json").read_text(encoding="utf-8"))
problems = []
def check(environment, load, *name):
    (bundle / "platform.json").write_text(json.dumps({**facts, "environment": environment}), encoding="utf-8")
    try:
        return load(*name, bundle)
    except ConfigError as error:
        problems.append(str(error))
here = facts.get("environment")
others = [path.stem for path in sorted((bundle / "config").glob("*.yaml")) if path.stem != "base"]
sound = [name for name in dict.fromkeys([here, *others]) if check(name, loading.load_settings)]
for family in loading.family_names(bundle):
    check(here, loading.load_family, family)
for dataset in loading.model_names(bundle):
    if check(here, loading.load_model, dataset):
        for environment in sound:
            check(environment, loading.load_dataset, dataset)
problems = list(dict.fromkeys(problems))  # a wrong family is one of its datasets' mistakes too
print(json.dumps(problems))
"""

_POOLS = """
import dataclasses, json, sys
from pathlib import Path
bundle = Path(sys.argv[1])
sys.path.insert(0, str(bundle))
from mlplatform.config.pools import pools_of
print(json.dumps([dataclasses.asdict(pool) for pool in pools_of(bundle)]))
"""

_IMPORT_DAGS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps([f"{path}:\\n{trace.rstrip()}" for path, trace in sorted(bag.import_errors.items())]))
"""


def contents(root: Path) -> dict[str, bytes]:
    """Return the contents of the files to push by their key in the bucket, sorted.

    Raises:
        CloudError: there is no DAG in the folder, so that it can hardly be the project.
    """
    found = {f"{PREFIX}{name}": path for name, path in _walk(root / "dags")}
    for name, path in _walk(root / "config"):
        if name.partition("/")[0] not in _OTHERS_CONFIG:
            found[f"{PREFIX}config/{name}"] = path
    others = {root / source for source in (*TERRAFORM_COPIES.values(), wheels.SOURCE)}
    found = {key: path for key, path in found.items() if key not in TERRAFORM_KEYS and path not in others}
    if not any(is_dag_file(key) for key in found):
        raise CloudError(f"{root / 'dags'}: no DAG file there; pushing it would delete all DAGs of the environment")
    return {key: found[key].read_bytes() for key in sorted(found)}


def is_dag_file(key: str) -> bool:
    """Whether Airflow looks for DAGs in this file; everything else is what DAG files use."""
    return key.endswith(".py") and not key.startswith(_LIBRARY)


def order(key: str) -> int:
    """Return when a file may be pushed: what Airflow shall not parse, then what DAGs use, then the DAGs."""
    if PurePosixPath(key).name == _IGNORE_FILE:
        return 0
    return 2 if is_dag_file(key) else 1


def check_python(contents: Mapping[str, bytes]) -> list[str]:
    """Return a line for each Python file that does not compile."""
    problems = []
    for key, content in contents.items():
        if key.endswith(".py"):
            try:
                compile(content, key, "exec", dont_inherit=True)
            except SyntaxError as error:
                problems.append(f"{key}:{error.lineno}: {error.msg}")
            except ValueError as error:
                problems.append(f"{key}: {error}")
    return problems


def check_settings(contents: Mapping[str, bytes], platform: bytes) -> list[str]:
    """Return what is wrong with the settings and the models, given the facts of the environment.

    Raises:
        CloudError: the library cannot be imported.
    """
    with tempfile.TemporaryDirectory(prefix="ml-platform-bundle-") as folder:
        bundle = _assemble(Path(folder), contents, platform)
        command = [sys.executable, "-I", "-B", "-c", _CHECK_SETTINGS, str(bundle)]
        problems: list[str] = _answer(command, None, "the settings")
    return problems


def pools(contents: Mapping[str, bytes], platform: bytes) -> list[Pool]:
    """Return the Airflow pools that the bundle's DAGs need, by its own settings, which were checked before.

    Raises:
        CloudError: the library cannot be imported.
    """
    with tempfile.TemporaryDirectory(prefix="ml-platform-bundle-") as folder:
        bundle = _assemble(Path(folder), contents, platform)
        found = _answer([sys.executable, "-I", "-B", "-c", _POOLS, str(bundle)], None, "the pools")
    return [Pool(**pool) for pool in found]


def check_imports(contents: Mapping[str, bytes], platform: bytes, python: Path) -> list[str]:
    """Return the traceback of each DAG file that Airflow cannot import.

    Args:
        contents: the bundle's files, by key.
        platform: ``platform.json`` of the environment.
        python: interpreter of an environment with Airflow.

    Raises:
        CloudError: Airflow itself does not start.
    """
    with tempfile.TemporaryDirectory(prefix="ml-platform-bundle-") as folder:
        bundle = _assemble(Path(folder) / "bundle", contents, platform)
        environment = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ} | {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__DAGS_FOLDER": str(bundle),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{folder}/logs",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        command = [str(python), "-B", "-c", _IMPORT_DAGS, str(bundle)]
        problems: list[str] = _answer(command, environment, "the DAG files")
    return problems


def _walk(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts[:-1]) or (
            parts[-1].startswith(".") and parts[-1] != _IGNORE_FILE
        )
        if path.is_file() and not hidden and _NEVER.isdisjoint(parts):
            found.append(("/".join(parts), path))
    return found


def _assemble(bundle: Path, contents: Mapping[str, bytes], platform: bytes) -> Path:
    for key, content in contents.items():
        target = bundle / key.removeprefix(PREFIX)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (bundle / "platform.json").write_bytes(platform)
    return bundle


def _answer(command: list[str], environment: dict[str, str] | None, what: str) -> Any:
    """Return what a command printed last, as JSON."""
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise CloudError(f"{what} could not be checked, nothing was pushed:\n{done.stderr.strip()[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])
