"""Where a local platform keeps its files: one folder, called its home."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / ".local" / "envs"
DAGS = str(ROOT / "dags")
DEFAULT_HOME = ROOT / ".local" / "platform"
HOME_VARIABLE = "ML_PLATFORM_HOME"

# What a wiped home keeps: the marker that says the folder is ours, the lock files, and the logs.
_MARKER = ".ml-platform"
_KEPT = frozenset({_MARKER, "up.lock", "supervisor.lock", "logs"})


class PlatformError(Exception):
    """Something stands in the way; the message says what, where and what to do."""


@dataclass(frozen=True)
class Home:
    """The folder of one platform; several can exist, and run, side by side."""

    root: Path

    @classmethod
    def resolve(cls, path: Path | None = None) -> Home:
        """Take the given folder, else the one ``ML_PLATFORM_HOME`` names, else ``.local/platform``."""
        chosen = path or Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
        return cls(chosen.expanduser().absolute())

    @property
    def state_file(self) -> Path:
        """What the supervisor knows, see `state`."""
        return self.root / "state.json"

    @property
    def secrets_file(self) -> Path:
        """Generated passwords and keys."""
        return self.root / "secrets.json"

    @property
    def logs(self) -> Path:
        """One log file a service."""
        return self.root / "logs"

    @property
    def bundle(self) -> Path:
        """The DAG bundle that Airflow reads."""
        return self.root / "bundle"

    @property
    def images_file(self) -> Path:
        """The image registry, see `local.images`."""
        return self.root / "images.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's; written by the Kubernetes API when it starts."""
        return self.folder("kubernetes") / "kubeconfig"

    @property
    def airflow_kubeconfig(self) -> Path:
        """Airflow's own, with the rights that it has in every cluster and no more."""
        return self.folder("kubernetes") / "airflow.kubeconfig"

    @property
    def supervisor_lock(self) -> Path:
        """Locked for as long as this home's supervisor lives."""
        return self.root / "supervisor.lock"

    @property
    def up_lock(self) -> Path:
        """Locked while an ``up`` decides what to do, so that two of them do not both start a platform."""
        return self.root / "up.lock"

    def folder(self, service: str) -> Path:
        """Return the folder of one service's own data."""
        return self.root / service

    def log(self, service: str) -> Path:
        """Return the log file of a service."""
        return self.logs / f"{service}.log"

    def claim(self) -> None:
        """Create the folder, or make sure that it is one of ours.

        Raises:
            PlatformError: the folder holds somebody else's files; starting would delete them.
        """
        if self.root.exists() and not self.root.is_dir():
            raise PlatformError(f"{self.root} is not a folder: choose another with --home")
        if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / _MARKER).exists():
            raise PlatformError(
                f"{self.root} has files that are not a local platform's, and starting one empties its folder: "
                "choose an empty or a new folder with --home"
            )
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)  # it holds generated passwords and the logs of everything
        (self.root / _MARKER).touch()

    def wipe(self) -> None:
        """Empty the folder for a new platform; logs stay."""
        for entry in self.root.iterdir():
            if entry.name in _KEPT:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def rotate_logs(self) -> None:
        """Move the last platform's logs to ``logs/previous``."""
        self.logs.mkdir(exist_ok=True)
        current = [path for path in self.logs.iterdir() if path.name != "previous"]
        if current:
            previous = self.logs / "previous"
            shutil.rmtree(previous, ignore_errors=True)
            previous.mkdir()
            for path in current:
                path.rename(previous / path.name)


def use_dag_library() -> None:
    """Make `mlplatform`, the library of the DAG bundle, importable in this process."""
    if DAGS not in sys.path:
        sys.path.append(DAGS)


def environment_python(name: str) -> Path:
    """Return the interpreter of one of the project's environments.

    Raises:
        PlatformError: it has not been set up.
    """
    python = ENVS / name / "bin" / "python"
    if not python.exists():
        raise PlatformError(
            f"the environment {name!r} is not there ({python}): run `python3 local/bootstrap.py {name}`"
        )
    return python
