"""Fault injection: the next calls of an operation end in an AWS error and never reach a backend."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from local.emulators.calls import Call, Request, models, signing_name
from local.emulators.responses import Response, error


class Fault(BaseModel):
    """What to fail, how often and how."""

    model_config = ConfigDict(extra="forbid")

    service: str
    action: str
    times: int = Field(default=1, ge=1)
    status: int = Field(default=400, ge=400, le=599)
    code: str = "ValidationException"
    message: str = "This call was told to fail."
    contains: str = ""
    """Strike only requests whose path or body has this text, such as the name of one resource."""

    @model_validator(mode="after")
    def _known(self) -> Fault:
        """A misspelt fault would never strike, and the test that armed it would prove nothing."""
        self.service = signing_name(self.service)
        known = models(self.service)
        if not known:
            raise ValueError(f"there is no service {self.service!r}")
        if not any(self.action in model.operation_names for model in known):
            raise ValueError(f"the service {self.service!r} has no operation {self.action!r}")
        return self


class Faults:
    """The faults that are armed, used up in the order in which they were added."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Arm a fault."""
        self._armed.append(fault)

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def armed(self) -> list[Fault]:
        """Return what has not struck yet."""
        return list(self._armed)

    def strike(self, call: Call, request: Request) -> Response | None:
        """Return the error that a call ends in, if it has to fail."""
        text = request.path.encode() + b" " + request.body
        for fault in self._armed:
            if (fault.service, fault.action) == (call.service, call.action) and fault.contains.encode() in text:
                fault.times -= 1
                if fault.times == 0:
                    self._armed.remove(fault)
                return error(call.protocol, call.service, fault.code, fault.message, fault.status)
        return None
