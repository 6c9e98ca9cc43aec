"""Set up everything the project needs on a bare machine, once; find it all in place the next time.

Runs on any Python 3.10+ with the standard library alone, because it is what brings everything else:

1. uv: on PATH, in the usual places, or installed into ``.local/uv``;
2. a Python 3.12: on PATH, under a pyenv root, or fetched by uv;
3. one locked, byte-compiled environment per component under ``.local/envs``.

An environment is reused as long as its lock file and its interpreter are unchanged.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Run as a script, this folder comes first on the path, where `platform` would hide the standard library's.
    sys.path.pop(0)

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".local"
ENVS = LOCAL / "envs"
PYTHON = "3.12"  # Amazon MWAA's Python for Airflow 3.2.1; one version for every component
UV_VERSION = "0.13.9"
UV_MINIMUM = (0, 8)

# name -> (sources of the lock file, lock file installed here, further arguments to compile it)
ENVIRONMENTS: dict[str, tuple[list[str], str, list[str]]] = {
    "dev": (["pyproject.toml"], "requirements.lock", ["--group", "test"]),
    "airflow": (
        ["local/airflow/requirements.in"],
        "local/airflow/requirements.lock",
        ["--constraint", "dags/constraints.txt"],
    ),
    "trainer": (
        ["containers/trainer/pyproject.toml"],
        "containers/trainer/requirements-test.lock",
        ["--extra", "cpu"],
    ),
    # PyTorch, and XGBoost with CUDA; works without a GPU too.
    "trainer-cuda": (
        ["containers/trainer/pyproject.toml"],
        "containers/trainer/requirements-cuda-test.lock",
        ["--extra", "cuda"],
    ),
    "spark": (
        ["containers/trainer/pyproject.toml"],
        "containers/trainer/spark.lock",
        ["--extra=cpu", *(f"--group=containers/trainer/pyproject.toml:{group}" for group in ("test", "spark"))],
    ),
    "serving": (["containers/serving/pyproject.toml"], "containers/serving/requirements-test.lock", []),
    "deployer": (["containers/deployer/pyproject.toml"], "containers/deployer/requirements-test.lock", []),
    "mlflow": (["containers/mlflow/pyproject.toml"], "containers/mlflow/requirements.lock", []),
    # What builds the environments inside the images, and what checks those images.
    "images": (["containers/build/pyproject.toml"], "containers/build/requirements-test.lock", []),
    "checkov": (["tests/policies/checkov.in"], "tests/policies/checkov.lock", []),
    "ministack": (["local/emulators/ministack.in"], "local/emulators/ministack.lock", []),
    "localstack": (
        ["local/emulators/localstack.in"],
        "local/emulators/localstack.lock",
        # Newer releases of what it needs no longer fit it; nor do Pythons other than ours.
        ["--exclude-newer", "2026-03-05", "--no-universal"],
    ),
}

# What MWAA installs, and from what it is compiled: the versions are those of Airflow's environment here.
MWAA_SOURCE = "dags/requirements.in"
MWAA_REQUIREMENTS = "dags/requirements.txt"
MWAA_OPTIONS = """\
# Made by `make lock` from requirements.in. MWAA's containers install it when they start, each by itself, and some reach
# no package index: everything comes from the wheels in plugins.zip, which MWAA unpacks first.
--no-index
--find-links /usr/local/airflow/plugins
--constraint "/usr/local/airflow/dags/constraints.txt"
"""


class SetupError(Exception):
    """A prerequisite is missing; the message says what to do."""


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command quietly; its output is shown only when it fails."""
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=env
    )
    if done.returncode != 0:
        shown = " ".join(map(str, command))
        raise SetupError(f"`{shown}` failed with exit code {done.returncode}:\n{done.stdout.strip()}")
    return done.stdout


def uv_version(uv: str | Path) -> tuple[int, ...]:
    """Version of a uv executable as numbers; empty when it does not run."""
    try:
        output = subprocess.run([str(uv), "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", output)
    return tuple(int(part) for part in found.groups()) if found else ()


def find_or_install_uv() -> Path:
    """Return a usable uv, installing one under ``.local/uv`` when the machine has none."""
    own = LOCAL / "uv" / "bin" / "uv"
    home = Path.home()
    for candidate in (shutil.which("uv"), own, home / ".local/bin/uv", home / ".cargo/bin/uv"):
        if candidate and uv_version(candidate) >= UV_MINIMUM:
            return Path(candidate)
    say(f"installing uv {UV_VERSION} into {own.parent.parent.relative_to(ROOT)}")
    shutil.rmtree(own.parent.parent, ignore_errors=True)
    try:
        run(sys.executable, "-m", "venv", own.parent.parent)
        run(own.parent / "python", "-m", "pip", "install", "--quiet", f"uv=={UV_VERSION}")
    except SetupError as error:
        raise SetupError(
            f"uv was not found and could not be installed with {sys.executable}: install uv "
            "(https://docs.astral.sh/uv/getting-started/installation/) or your system's python3-venv package, "
            f"then try again.\n{error}"
        ) from None
    return own


def is_wanted_python(python: str | Path) -> bool:
    """Whether this interpreter runs and is the wanted version (a pyenv shim may exist and not run)."""
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == PYTHON


def find_or_fetch_python(uv: Path) -> str:
    """Return the path of a Python 3.12: on PATH, under a pyenv root, known to uv, or fetched by uv."""
    roots = [Path(os.environ["PYENV_ROOT"])] if os.environ.get("PYENV_ROOT") else []
    roots += [Path.home() / ".pyenv", Path("/opt/pyenv")]
    candidates: list[str | Path] = [sys.executable]
    if on_path := shutil.which(f"python{PYTHON}"):
        candidates.append(on_path)
    for root in roots:
        candidates += sorted(root.glob(f"versions/{PYTHON}.*/bin/python"), reverse=True)
    for candidate in candidates:
        if is_wanted_python(candidate):
            return str(candidate)
    try:
        return run(uv, "python", "find", PYTHON).strip()
    except SetupError:
        pass
    say(f"fetching Python {PYTHON}")
    try:
        run(uv, "python", "install", PYTHON)
        return run(uv, "python", "find", PYTHON).strip()
    except SetupError as error:
        raise SetupError(
            f"Python {PYTHON} was not found on PATH or under pyenv and could not be fetched: install it "
            f"(for example `pyenv install {PYTHON}`), then try again.\n{error}"
        ) from None


def say(message: str) -> None:
    """Tell the person at the terminal."""
    print(f"setup: {message}", file=sys.stderr, flush=True)


def stamp_for(lock: Path) -> str:
    """What an environment was made from; a difference means it has to be made again."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def is_ready(name: str) -> bool:
    """Whether the environment was completed from the present lock file, and its interpreter is still there."""
    env, lock = ENVS / name, ROOT / ENVIRONMENTS[name][1]
    stamp = env / ".stamp"
    return stamp.is_file() and stamp.read_text() == stamp_for(lock) and (env / "bin" / "python").exists()


def create(name: str, uv: Path, python: str) -> None:
    """Create one environment; the stamp is written last, so an interrupted set-up starts over."""
    env, lock = ENVS / name, ROOT / ENVIRONMENTS[name][1]
    started = time.monotonic()
    (env / ".stamp").unlink(missing_ok=True)
    # Whoever runs this may have set PYTHONDONTWRITEBYTECODE; compiling is the point here:
    # importing the Kubernetes operator without bytecode costs every task eight seconds.
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")}
    run(uv, "venv", "--quiet", "--clear", "--python", python, env, env=environ)
    run(
        *(uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode"),
        *("--python", env / "bin" / "python", lock),
        env=environ,
    )
    (env / ".stamp").write_text(stamp_for(lock))
    say(f"environment {name} ready in {time.monotonic() - started:.0f} s")


def setup(names: list[str]) -> None:
    """Bring the named environments up to date."""
    ENVS.mkdir(parents=True, exist_ok=True)
    with (ENVS / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # two `make` at once: the second waits, then finds all in place
        missing = [name for name in names if not is_ready(name)]
        if not missing:
            return
        uv = find_or_install_uv()
        python = find_or_fetch_python(uv)
        say(f"creating {len(missing)} environments ({', '.join(missing)}) with {python}; about a minute, once")
        for name in missing:
            create(name, uv, python)


def lock_all(names: list[str]) -> None:
    """Compile the lock files from their sources: hashes, no index address, so any mirror can serve them."""
    uv = find_or_install_uv()
    python = find_or_fetch_python(uv)
    base = ["pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate", "--python", python]
    base += ["--custom-compile-command", "make lock"]
    for name in names:
        sources, lock, extra = ENVIRONMENTS[name]
        if lock.endswith("-test.lock"):
            runtime = lock.replace("-test.lock", ".lock")
            run(uv, *base, *extra, *sources, "-o", runtime)
            extra = [*extra, "--group", f"{sources[0]}:test", "--constraint", runtime]
        run(uv, *base, *extra, *sources, "-o", lock)
        say(f"wrote {lock}")
        if name == "airflow":
            lock_mwaa(uv, python)


def lock_mwaa(uv: Path, python: str) -> None:
    """Compile what MWAA installs, for the one platform it has."""
    _, lock, constraints = ENVIRONMENTS["airflow"]
    LOCAL.mkdir(exist_ok=True)
    compiled = LOCAL / "mwaa.lock"
    compiled.unlink(missing_ok=True)
    run(
        *(uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header", "--python", python),
        *("--python-platform", "x86_64-manylinux_2_34", "--only-binary", ":all:", *constraints, "--constraint", lock),
        *(MWAA_SOURCE, "-o", compiled),
    )
    (ROOT / MWAA_REQUIREMENTS).write_text(MWAA_OPTIONS + compiled.read_text())
    compiled.unlink()
    say(f"wrote {MWAA_REQUIREMENTS}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ", ".join(ENVIRONMENTS)
    parser.add_argument("names", nargs="*", metavar="ENVIRONMENT", help=f"any of: {choices} (default: all)")
    parser.add_argument("--lock", action="store_true", help="compile the lock files from their sources instead")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(ENVIRONMENTS):
        parser.error(f"unknown environment {sorted(unknown)[0]!r}: choose from {choices}")
    names = arguments.names or list(ENVIRONMENTS)
    try:
        (lock_all if arguments.lock else setup)(names)
    except SetupError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
