"""The resources of every root, planned once however many tests ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.policies.planning import ENVIRONMENTS, OWN_VARIABLES, STATE, VARIABLES, Planner, account
from tests.policies.resources import Resource, from_plan
from tests.provider import running

ROOTS = ("bootstrap", *ENVIRONMENTS)
Edit = Callable[[Path], None]


class Plans:
    """The resources of every root as they are planned, two plans at a time."""

    def __init__(self, folder: Path, provider: Path, aws: str, pool: ThreadPoolExecutor) -> None:
        self._folder, self._provider, self._aws, self._pool = folder, provider, aws, pool
        self._found: dict[str, Future[list[Resource]]] = {}

    def start(self, root: str) -> Future[list[Resource]]:
        """Begin the plan of a root, unless it was begun."""
        if root not in self._found:
            self._found[root] = self._pool.submit(self._plan, root)
        return self._found[root]

    def edited(self, environment: str, edit: Edit, *targets: str) -> list[Resource]:
        """Return the plan of parts of an environment, after `edit` has changed the copy of terraform/ it is made from.

        It starts from what was made up for the whole environment.
        """
        return from_plan(self._edited(f"{environment}-edited", environment, edit, targets))

    def changes(self, environment: str, edit: Edit) -> dict[str, tuple[str, ...]]:
        """Return what `edit` would do to an environment that is there, by address: create, update, delete."""
        plan = self._edited(f"{environment}-changed", environment, edit, ())
        return {change["address"]: tuple(change["change"]["actions"]) for change in plan["resource_changes"]}

    def _edited(self, name: str, environment: str, edit: Edit, targets: tuple[str, ...]) -> dict[str, Any]:
        self.start(environment).result()
        state = self._folder / environment / "terraform" / "environments" / environment / STATE
        with self._planner(name) as planner:
            edit(planner.terraform)
            return self._environment(planner, environment, targets, state)

    def start_elsewhere(self, root: str, name: str, region: str) -> Future[list[Resource]]:
        """Begin the first plan of a root of another platform, or in another region: enough for what is called how."""
        key = f"{root}-{name}-{region}"
        if key not in self._found:
            self._found[key] = self._pool.submit(self._elsewhere, key, root, name, region)
        return self._found[key]

    def __getitem__(self, root: str) -> list[Resource]:
        return self.start(root).result()

    def _plan(self, root: str) -> list[Resource]:
        with self._planner(root) as planner:
            if root == "bootstrap":
                variables = {"github_repository": "example/platform", "region": VARIABLES["region"]}
                return from_plan(planner.plan(planner.terraform / root, variables))
            return from_plan(self._environment(planner, root))

    def _elsewhere(self, key: str, root: str, name: str, region: str) -> list[Resource]:
        with self._planner(key) as planner:
            planner.call(name)
            if root == "bootstrap":
                folder, variables = planner.terraform / root, {"github_repository": "example/platform"}
            else:
                folder, variables = planner.terraform / "environments" / root, VARIABLES | OWN_VARIABLES.get(root, {})
            return from_plan(planner.plan(folder, variables | {"region": region}, rounds=1))

    def _environment(
        self, planner: Planner, name: str, targets: tuple[str, ...] = (), state: Path | None = None
    ) -> dict[str, Any]:
        variables = VARIABLES | OWN_VARIABLES.get(name, {})
        return planner.plan(planner.terraform / "environments" / name, variables, targets, state)

    @contextmanager
    def _planner(self, name: str) -> Iterator[Planner]:
        """A copy of the code, with a provider of its own: the configuration of one is not another's."""
        workplace = self._folder / name
        workplace.mkdir()
        with running(self._provider, account(self._aws)) as environment:
            yield Planner(workplace, environment)
