"""An image's files as a container sees them, told by the image's own Python: no gigabyte leaves the engine for it."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass

from tests.images.support import RESTRICTED, Images

MADE_BY_DOCKER = (".dockerenv", "dev", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", "proc", "sys")
_READER = ("--user=0:0", "--cap-add=DAC_READ_SEARCH", "--network=none", "--entrypoint=python")
# Arguments: what not to look at; the text to look for; whether to digest contents.
_PROGRAM = """
import hashlib, json, mmap, os, stat, sys
skipped, text, digests = set(json.loads(sys.argv[1])), sys.argv[2].encode(), sys.argv[3] == "yes"
for parent, folders, files in os.walk("/"):
    for name in [*folders, *files]:
        path = os.path.join(parent, name)
        if path[1:] in skipped:
            continue
        status = os.lstat(path)
        link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
        found, digest = False, ""
        if stat.S_ISREG(status.st_mode) and status.st_size:
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found = content.find(text) >= 0
                digest = hashlib.sha256(content).hexdigest() if digests else ""
        print(json.dumps([path[1:], status.st_mode, status.st_uid, status.st_gid,
                          int(status.st_mtime), link, digest, found]))
    folders[:] = [name for name in folders if os.path.join(parent, name)[1:] not in skipped]
"""


@dataclass(frozen=True)
class Member:
    """A file, a folder or a link; the digest is empty unless it was asked for."""

    mode: int
    uid: int
    gid: int
    modified: int
    link: str
    digest: str

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


@dataclass(frozen=True)
class Tree:
    """All of them by path, and the paths of the files that a text was found in."""

    members: dict[str, Member]
    found: list[str]


def read(images: Images, reference: str, text: str, digests: bool = False) -> Tree:
    """Return the files of an image, after looking for a text in each."""
    command = ["run", "--rm", *(option for option in RESTRICTED if not option.startswith("--tmpfs")), *_READER]
    arguments = ["-c", _PROGRAM, json.dumps(MADE_BY_DOCKER), text, "yes" if digests else "no"]
    tree = Tree({}, [])
    for line in images.engine.run(*command, reference, *arguments).splitlines():
        path, *values, found = json.loads(line)
        tree.members[path] = Member(*values)
        if found:
            tree.found.append(path)
    return tree
