"""Makes what an image holds, inside its build: the locked environment with its SBOM, and the application.

Three steps, each a layer of the build stage that stays cached until its own input changes::

    build.py tools         /tools: uv and cyclonedx-py, from this folder's lock; never in an image
    build.py environment   /opt/venv: what the image's lock names, stripped, listed and byte-compiled
    build.py application   /opt/app: the sources that were copied there, byte-compiled; the account they run as

The last two leave what they made below `/layers`, as the tree to copy over an image's root: only of folders inside a
tree does COPY keep the times.

The same input gives the same bytes, names, modes and times, so that an image made twice has the same layers: nothing
changes in a registry or on a node that has them already. Standard library only.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

BUILD = Path("/build")
TOOLS = Path("/tools")
VENV = Path("/opt/venv")
APP = Path("/opt/app")
LAYERS = Path("/layers")
SECRETS = Path("/run/secrets")
SBOM = VENV / "share" / "sbom.cdx.json"
USER = 10001
EPOCH = 315532800
"""Time of every file, 1980-01-01: not the commit's, so that an environment whose lock is the same stays the same."""
TESTS = ("**/tests", "onnx/backend/test")
# NumPy's testing module imports it, and SciPy that module.
IMPORTED_TESTS = ("numpy/_core/tests/_natype.py",)
HEADERS = ("nvidia", "torch", "pyarrow", "numpy")
"""Packages whose headers only a compiler would read; there is none in an image."""
LARGE = 100
"""Sources of a package that is compiled by a process of its own."""


def index_environment(secrets: Path = SECRETS) -> dict[str, str]:
    """Return the variables that lead pip and uv to the package index.

    Two optional secrets of the build: ``index`` holds lines ``NAME=value`` (PIP_INDEX_URL, UV_DEFAULT_INDEX, …), ``ca``
    the certificates of authorities to trust besides nothing else. Secrets are mounted while a command runs; neither
    a layer nor the history keeps them.
    """
    environment: dict[str, str] = {}
    index, authorities = secrets / "index", secrets / "ca"
    if index.is_file():
        for line in index.read_text(encoding="utf-8").splitlines():
            name, given, value = line.partition("=")
            if line.strip() and not line.startswith("#"):
                if not given:
                    raise SystemExit(
                        "build: secret `index`: every line must be NAME=value, as in PIP_INDEX_URL=https://…"
                    )
                environment[name.strip()] = value.strip()
    if authorities.is_file() and authorities.stat().st_size:
        environment |= {"PIP_CERT": str(authorities), "SSL_CERT_FILE": str(authorities)}
    return environment


def run(*command: str | Path, **variables: str) -> None:
    """Run a command; the build ends with its exit code if it fails."""
    done = subprocess.run([str(part) for part in command], env={**os.environ, **variables})
    if done.returncode != 0:
        raise SystemExit(done.returncode)


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Say how long a part of the build took."""
    started = time.monotonic()
    yield
    print(f"build: {part}: {time.monotonic() - started:.1f} s", flush=True)


def install_tools() -> None:
    """Make ``/tools``."""
    run(sys.executable, "-m", "venv", "--without-pip", TOOLS)
    run(
        *(sys.executable, "-m", "pip", "--python", TOOLS / "bin" / "python", "--disable-pip-version-check", "install"),
        *("--quiet", "--no-cache-dir", "--no-compile", "--require-hashes", "--only-binary", ":all:"),
        *("--requirement", BUILD / "requirements.lock"),
        **index_environment(),
    )


def install_environment(lock: Path) -> None:
    """Make ``/opt/venv`` from a lock file: locked wheels with the locked hashes and nothing else, no pip either."""
    cache = VENV.with_name("cache")  # beside the environment: files are linked, not copied
    uv = TOOLS / "bin" / "uv"
    with timed("install"):
        run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, VENV)
        run(
            *(uv, "pip", "sync", "--quiet", "--require-hashes", "--only-binary", ":all:"),
            *("--python", VENV / "bin" / "python", "--link-mode", "hardlink", "--cache-dir", cache, lock),
            **index_environment(),
        )
        shutil.rmtree(cache)
    with timed("strip"):
        strip(site_packages())
    with timed("write the SBOM"):
        SBOM.parent.mkdir(exist_ok=True)
        SBOM.write_text(json.dumps(sbom(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    with timed("compile"):
        compile_all([entry for entry in site_packages().iterdir() if entry.suffix != ".dist-info"])
    layer = LAYERS / "environment"
    link_openmp(site_packages(), layer)
    (layer / "opt").mkdir(parents=True)
    VENV.rename(layer / VENV.relative_to("/"))
    normalise(layer)


def install_application() -> None:
    """Compile ``/opt/app``. Everything that came with the sources from someone's clone besides them is left out."""
    for cache in APP.rglob("__pycache__"):
        shutil.rmtree(cache)
    compile_all([APP])
    layer = LAYERS / "application"
    shutil.copytree(APP, layer / APP.relative_to("/"))
    (layer / "etc").mkdir()
    add_account(Path("/etc"), layer / "etc")
    normalise(layer)


def add_account(source: Path, target: Path) -> None:
    """Name the user that images run as: libraries ask who they run as. There is no password and no home to write to."""
    for name, line in (("passwd", f"app:x:{USER}:{USER}::/tmp:/usr/sbin/nologin"), ("group", f"app:x:{USER}:")):
        accounts = (source / name).read_text(encoding="utf-8").rstrip()
        (target / name).write_text(f"{accounts}\n{line}\n", encoding="utf-8")


def site_packages() -> Path:
    """Return the environment's folder of packages."""
    return VENV / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def strip(packages: Path) -> None:
    """Remove what nothing reads where an image runs: tests, static libraries, headers."""
    kept = {path: path.read_bytes() for name in IMPORTED_TESTS if (path := packages / name).is_file()}
    folders = [path for pattern in TESTS for path in packages.glob(pattern) if path.is_dir()]
    folders += [path for name in HEADERS for path in (packages / name).rglob("include") if path.is_dir()]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # the one inside another is gone already
    for archive in packages.rglob("*.a"):
        archive.unlink()
    for name in (".lock", ".gitignore", "CACHEDIR.TAG"):
        (VENV / name).unlink(missing_ok=True)  # for a folder somebody works in
    for path, content in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def link_openmp(packages: Path, layer: Path) -> None:
    """Let LightGBM find OpenMP: its wheel brings none and the base image has none, but the wheels beside it do.

    Their library is linked into a folder in which the loader looks by itself.
    """
    library = f"usr/lib/{sysconfig.get_config_var('MULTIARCH')}/libgomp.so.1"
    if not (packages / "lightgbm").is_dir() or ("/" / Path(library)).exists():
        return
    brought = sorted(packages.glob("*.libs/libgomp-*.so*"))
    if not brought:
        raise SystemExit("build: LightGBM needs libgomp.so.1, which neither the base image nor a locked wheel has")
    (layer / library).parent.mkdir(parents=True)
    (layer / library).symlink_to(brought[-1])


def sbom() -> dict[str, Any]:
    """Return the SBOM in CycloneDX: the installed Python packages, Python itself, Debian's packages."""
    # The images' tests hold the whole of it against the schema; the tool alone would take longer for a part.
    command = [TOOLS / "bin" / "cyclonedx-py", "environment", "--output-reproducible", "--no-validate"]
    done = subprocess.run(
        [str(part) for part in (*command, "--output-format", "JSON", VENV / "bin" / "python")],
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    document: dict[str, Any] = json.loads(done.stdout)
    document["components"] += [python_component(), *debian_components()]
    return document


def python_component() -> dict[str, Any]:
    """Return the interpreter, which is no package of Debian's in the base image."""
    version = platform.python_version()
    return {
        "type": "application",
        "bom-ref": f"python@{version}",
        "name": "python",
        "version": version,
        "purl": f"pkg:generic/python@{version}",
        "cpe": f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
    }


def debian_components() -> Iterator[dict[str, Any]]:
    """Yield the packages of the root file system."""
    release = platform.freedesktop_os_release()
    distribution = f"{release['ID']}-{release['VERSION_ID']}"
    command = ["dpkg-query", "--show", "--showformat", r"${Package}\t${Version}\t${Architecture}\n"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for line in sorted(done.stdout.splitlines()):
        name, version, architecture = line.split("\t")
        query = f"arch={architecture}&distro={distribution}"
        yield {
            "type": "library",
            "bom-ref": f"deb:{name}@{version}:{architecture}",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/{release['ID']}/{quote(name)}@{quote(version, safe='')}?{query}",
        }


def compile_all(entries: list[Path]) -> None:
    """Byte-compile files and folders, to be used without a look at the source: nothing changes in an image.

    What one process has compiled before shows in the bytes of what it compiles next. So which share a process hangs on
    what there is, and on nothing of the machine: the many small ones do, each large one has its own.
    """
    command = [sys.executable, "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"]

    def compile_together(group: list[Path]) -> None:
        # Some packages bring templates that are no Python; compileall names them and goes on.
        named = [*command, *(str(entry) for entry in group)]
        subprocess.run(named, env={**os.environ, "PYTHONHASHSEED": "0"}, stdout=subprocess.DEVNULL)

    sources = sorted(entry for entry in entries if entry.is_dir() or entry.suffix == ".py")
    sizes = {entry: sum(1 for _ in entry.rglob("*.py")) for entry in sources}
    small = [entry for entry in sources if sizes[entry] < LARGE]
    groups = [small] if small else []
    # The largest first, so that no processor waits for it at the end.
    groups += [[entry] for entry in sorted(sources, key=sizes.__getitem__, reverse=True) if sizes[entry] >= LARGE]
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        list(pool.map(compile_together, groups))


def normalise(root: Path) -> None:
    """Give every file below a folder, and the folder, the same time and modes that do not hang on a clone's umask."""
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    root.chmod(0o755)
    os.utime(root, (EPOCH, EPOCH))


STEPS: dict[str, Callable[[], None]] = {
    "tools": install_tools,
    "environment": lambda: install_environment(BUILD / "image.lock"),
    "application": install_application,
}

if __name__ == "__main__":
    STEPS[sys.argv[1]]()
