"""A base image like `python:3.12-slim-trixie`, made from Debian's archive where no registry can be reached.

The same way the real one is made: Debian's smallest system, the few packages beside it, Python under `/usr/local` with
the libraries it links, pip. What a wheel needs of the system and the real image lacks is missing here too.
"""

from __future__ import annotations

import hashlib
import lzma
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from local.docker.engine import DockerError, Engine, Unavailable, find_program

NAME = "mlplatform/python-stand-in"
RELEASE, VERSION = "trixie", 13
"""Debian's release that the real image is made of."""
PACKAGES = ("ca-certificates", "netbase", "tzdata")
"""What the real image has besides the smallest system and what Python links."""
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# Tk's module and what only a compiler, a developer or Python's own tests use; the real image lacks it as well.
_LEFT_OUT = ("site-packages", "test", "tests", "idle_test", "__pycache__", "config-*", "lib2to3", "*tkinter*", "*.a")


def ensure_base_image(engine: Engine) -> str:
    """Make the image unless the engine has it, and return its reference.

    Raises:
        Unavailable: this system has no archive to make it from, or a program is missing.
        DockerError: it cannot be made.
    """
    reference = f"{NAME}:{_key()}"
    if engine.attempt("image", "inspect", reference).returncode == 0:
        return reference
    debootstrap = find_program("debootstrap", "debootstrap")
    codename, archive = _release(), _archive()
    linked = names_in_archive(linked_packages(), _packages_of(codename, archive))
    with tempfile.TemporaryDirectory(prefix="python-root-") as folder:
        root = Path(folder) / "root"
        packages = ",".join([*PACKAGES, *linked])
        # In a mount namespace: a failure leaves no mount behind.
        _run("unshare", "--mount", debootstrap, "--variant=minbase", f"--include={packages}", codename, root, archive)
        add_python(root)
        _slim(root)
        _import(engine, root, reference)
    return reference


def _key() -> str:
    """What the image hangs on; the archive's newest packages are not asked for."""
    parts = [Path(__file__).read_bytes(), sys.version.encode(), sys.base_prefix.encode(), _release().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _release() -> str:
    """Return the release to make it of: the real image's, on whose libraries an older system's Python runs as well.

    A newer system, and Ubuntu, has only its own for its Python.
    """
    found = _system()
    is_older = found.get("ID") == "debian" and int(found.get("VERSION_ID", VERSION + 1)) <= VERSION
    return RELEASE if is_older else found["VERSION_CODENAME"]


def _system() -> dict[str, str]:
    try:
        found = platform.freedesktop_os_release()
    except OSError:
        found = {}
    if "VERSION_CODENAME" not in found:
        raise Unavailable("a base image is made from Debian's or Ubuntu's archive: this system is neither")
    return found


def _archive() -> str:
    """Return the archive this system's own packages come from; it has Debian's other releases too."""
    own = _system()["VERSION_CODENAME"]
    target = "$(CREATED_BY) $(RELEASE) $(COMPONENT) $(REPO_URI)"
    for line in _run(find_program("apt-get", "apt"), "indextargets", "--format", target).splitlines():
        made_by, release, component, address = line.split(maxsplit=3)
        if (made_by, release, component) == ("Packages", own, "main"):
            return address
    raise Unavailable(f"apt's sources name no archive of {own}")


def _packages_of(codename: str, archive: str) -> set[str]:
    """Return the names of a release's packages, fetched as apt would."""
    architecture = _run("dpkg", "--print-architecture").strip()
    address = f"{archive.rstrip('/')}/dists/{codename}/main/binary-{architecture}/Packages.xz"
    with tempfile.TemporaryDirectory(prefix="packages-") as folder:
        target = Path(folder) / "Packages.xz"
        _run("/usr/lib/apt/apt-helper", "download-file", address, target)
        with lzma.open(target, "rt", encoding="utf-8") as lines:
            return {line.removeprefix("Package: ").strip() for line in lines if line.startswith("Package: ")}


def names_in_archive(packages: Sequence[str], known: Collection[str]) -> list[str]:
    """Return what packages are called in a release; Debian 13 renamed those in which a time became longer.

    Raises:
        DockerError: it has one under neither name.
    """
    found = []
    for package in packages:
        name = next((name for name in (package, f"{package}t64") if name in known), None)
        if name is None:
            raise DockerError(f"{package}, which this Python links, is not in the archive of the base image's release")
        found.append(name)
    return found


def _binaries() -> list[Path]:
    """Return this Python's own binaries, without Tk's."""
    modules = Path(sys.base_prefix, "lib", f"python{_version()}", "lib-dynload").glob("*.so")
    return [
        Path(sys.base_prefix, "bin", f"python{_version()}"),
        *(module for module in modules if "tkinter" not in module.name),
    ]


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def linked_packages() -> list[str]:
    """Return the packages whose libraries this Python links, as the real image finds them."""
    libraries: set[str] = set()
    for binary in _binaries():
        for line in _run("ldd", binary).splitlines():
            path = Path(line.partition("=>")[2].split("(")[0].strip() or "/")
            if path != Path("/") and not path.is_relative_to(sys.base_prefix):
                libraries.add(path.name)
    found: set[str] = set()
    for name in sorted(libraries):
        listed = subprocess.run(["dpkg-query", "--search", f"*/{name}"], capture_output=True, text=True).stdout
        found |= {line.split(":")[0] for line in listed.splitlines() if line.endswith(f"/{name}")}
    # With other versions of a library beside it in another package only one is needed; the archive's names decide.
    return sorted(package for package in found if not package.endswith(("-dev", "-cross", "-dbg")))


def add_python(root: Path) -> None:
    """Copy this Python to a root's `/usr/local`, and give it pip."""
    prefix, target, version = Path(sys.base_prefix), root / "usr/local", _version()
    (target / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2(prefix / "bin" / f"python{version}", target / "bin" / f"python{version}")
    for link in ("python3", "python"):
        (target / "bin" / link).symlink_to(f"python{version}")
    for library in (prefix / "lib").glob(f"libpython{version}.so*"):
        shutil.copy2(library, target / "lib" / library.name)
    shutil.copytree(
        *(prefix / "lib" / f"python{version}", target / "lib" / f"python{version}"),
        ignore=shutil.ignore_patterns(*_LEFT_OUT),
        symlinks=True,
    )
    (target / "lib" / f"python{version}" / "site-packages").mkdir(exist_ok=True)
    _run("chroot", root, "ldconfig")
    _run("chroot", root, f"/usr/local/bin/python{version}", "-m", "ensurepip", "--default-pip")


def _slim(root: Path) -> None:
    for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        for entry in (root / folder).glob("*"):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for cache in (root / "usr/local").rglob("__pycache__"):
        shutil.rmtree(cache)
    # Docker brings its own; debootstrap's are this machine's.
    for name in ("etc/resolv.conf", "etc/hostname", "etc/hosts"):
        (root / name).write_bytes(b"")


def _import(engine: Engine, root: Path, reference: str) -> None:
    archive = subprocess.Popen(
        ["tar", "--create", "--numeric-owner", "--one-file-system", "--directory", str(root), "."],
        stdout=subprocess.PIPE,
    )
    assert archive.stdout is not None
    with archive, archive.stdout as stream:
        changes = [f"--change=ENV {name}={value}" for name, value in ENVIRONMENT.items()]
        engine.run("import", *changes, '--change=CMD ["python3"]', "-", reference, stdin=stream.fileno())
    if archive.returncode != 0:
        engine.attempt("image", "rm", reference)
        raise DockerError(f"tar ended with {archive.returncode}")


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise DockerError(f"{command[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
