"""One set of plans for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.policies.planning import answering_aws
from tests.policies.plans import ROOTS, Plans
from tests.provider import install


@pytest.fixture(scope="session")
def plans(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Plans]:
    provider = install(tmp_path_factory.mktemp("provider"))
    with answering_aws() as aws, ThreadPoolExecutor(2) as pool:
        plans = Plans(tmp_path_factory.mktemp("plans"), provider, aws, pool)
        # What will be asked for is begun while other tests run.
        wanted = {root for item in request.session.items for root in ROOTS if f"[{root}]" in item.name}
        for root in sorted(wanted):
            plans.start(root)
        yield plans
        pool.shutdown(cancel_futures=True)
