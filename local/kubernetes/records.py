"""What happened, for tests and benchmarks: the requests made and the pods there were."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field

from local.kubernetes.errors import JSON

_REQUESTS = 20000
_PODS = 2000


@dataclass
class RequestRecord:
    """One request: time in seconds since the epoch, status None while it is being answered."""

    time: float
    method: str
    path: str
    query: str
    user_agent: str
    user: str
    """Empty for whoever has not signed in."""
    status: int | None = None
    seconds: float | None = None


@dataclass
class ContainerRecord:
    """One container: times in seconds since the epoch, memory in bytes; log is a file on this machine."""

    name: str
    image: str
    argv: list[str] = field(default_factory=list)
    pid: int | None = None
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None
    reason: str | None = None
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    log: str | None = None


@dataclass
class PodRecord:
    """One pod: times in seconds since the epoch; started and finished are those of its containers."""

    uid: str
    namespace: str
    name: str
    labels: dict[str, str]
    created: float
    service_account: str
    node: str | None = None
    scheduled: float | None = None
    started: float | None = None
    finished: float | None = None
    deleted: float | None = None
    phase: str = "Pending"
    reason: str | None = None
    exit_code: int | None = None
    """Of the first container."""
    containers: list[ContainerRecord] = field(default_factory=list)


class Records:
    """The last requests and pods."""

    def __init__(self) -> None:
        self.requests: deque[RequestRecord] = deque(maxlen=_REQUESTS)
        self.pods: deque[PodRecord] = deque(maxlen=_PODS)

    def list_requests(self) -> list[JSON]:
        """Return the request log, oldest first."""
        return [asdict(record) for record in self.requests]

    def list_pods(self) -> list[JSON]:
        """Return every pod ever created here, oldest first."""
        return [asdict(record) for record in self.pods]
