"""The lock of a dataset's deployments: who waits, who gives up, who takes over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlplatform.deployment import lock as lock_module
from mlplatform.deployment.lock import LEASE_SECONDS, DeploymentLock
from mlplatform.errors import LockBusyError, LockLostError

URI = "s3://data/deployments/parcels/lock.json"


class Clock:
    """Time that passes only by sleeping; something may happen meanwhile."""

    def __init__(self, meanwhile: Any = None) -> None:
        self.now = 1000.0
        self._meanwhile = meanwhile

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._meanwhile:
            self._meanwhile(self.now)


def lock(owner: str, clock: Clock, **options: Any) -> DeploymentLock:
    return DeploymentLock(URI, owner, clock=clock, sleep=clock.sleep, **options)


def written(s3: Any) -> Any:
    return json.loads(s3.get_object(Bucket="data", Key="deployments/parcels/lock.json")["Body"].read())


def test_one_after_the_other(s3: Any) -> None:
    clock = Clock()
    for owner in ("one", "two", "one"):
        with lock(owner, clock) as held:
            held.confirm()
            assert (written(s3)["owner"], written(s3)["released"]) == (owner, False)
        assert written(s3)["released"]
    assert clock.now == 1000.0, "nobody waited"


def test_the_second_waits_until_the_first_has_ended(s3: Any) -> None:
    first = lock("one", Clock())
    first.__enter__()
    ended: list[float] = []

    def meanwhile(now: float) -> None:
        first.renew()
        if now >= 1200 and not ended:
            ended.append(now)
            first.__exit__()

    clock = Clock(meanwhile)
    with lock("two", clock):
        assert ended
        assert written(s3)["owner"] == "two"


def test_the_second_gives_up_while_the_first_is_alive(s3: Any) -> None:
    with lock("one", Clock()) as first:
        clock = Clock(lambda _: first.renew())
        with pytest.raises(
            LockBusyError, match=r"another deployment, one, is at work since .* within 900 s; nothing was"
        ):
            lock("two", clock).__enter__()
        assert clock.now >= 1900
        assert written(s3)["owner"] == "one"


def test_one_that_ended_without_a_word_is_taken_over_and_can_do_nothing_more(s3: Any) -> None:
    dead = lock("one", Clock())
    dead.__enter__()
    clock = Clock()
    with lock("two", clock):
        assert LEASE_SECONDS <= clock.now - 1000 < LEASE_SECONDS + 15
        dead.renew()
        with pytest.raises(LockLostError, match="another deployment may have taken over"):
            dead.confirm()
        dead.__exit__()
        assert (written(s3)["owner"], written(s3)["released"]) == ("two", False)


def test_a_second_attempt_at_the_same_deployment_does_not_wait(s3: Any) -> None:
    killed = lock("one", Clock())
    killed.__enter__()
    clock = Clock()
    with lock("one", clock):
        assert clock.now == 1000.0
        killed.renew()
        with pytest.raises(LockLostError):
            killed.confirm()
        killed.__exit__()


def test_without_renewal_nothing_may_be_changed(s3: Any) -> None:
    clock = Clock()
    with lock("one", clock) as held:
        clock.now += LEASE_SECONDS - 1
        held.confirm()
        clock.now += 1
        with pytest.raises(LockLostError):
            held.confirm()
        held.renew()
        held.confirm()


def test_an_answer_that_was_lost_is_no_loss(s3: Any) -> None:
    with lock("one", Clock()) as held:
        written_by_us = held._record(released=False).model_dump_json(indent=2).encode()
        s3.put_object(Bucket="data", Key="deployments/parcels/lock.json", Body=written_by_us)
        held.renew()
        held.confirm()
        held.renew()
        held.confirm()


def test_it_is_given_back_although_the_last_renewal_s_answer_was_lost(s3: Any) -> None:
    with lock("one", Clock()) as held:
        written_by_us = held._record(released=False).model_dump_json(indent=2).encode()
        s3.put_object(Bucket="data", Key="deployments/parcels/lock.json", Body=written_by_us)
    assert written(s3)["released"], "the next one does not wait for the end of a lease"


def test_what_another_one_has_taken_over_is_not_given_back(s3: Any) -> None:
    with lock("one", Clock()), lock("two", Clock()):
        pass
    assert written(s3)["owner"] == "two"


def test_it_beats_by_itself(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    beaten = threading.Event()
    monkeypatch.setattr(lock_module, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(DeploymentLock, "renew", lambda _: beaten.set())
    with DeploymentLock(URI, "one"):
        assert beaten.wait(5)
