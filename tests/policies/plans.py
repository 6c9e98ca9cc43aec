"""The resources of every root, planned once however many tests ask for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.policies.planning import ENVIRONMENTS, OWN_VARIABLES, VARIABLES, Planner
from tests.policies.resources import Resource, from_plan

ROOTS = ("bootstrap", *ENVIRONMENTS)
Edit = Callable[[Path], None]


class Plans:
    """The resources of every root as they are planned, two plans at a time."""

    def __init__(self, folder: Path, sts: str, pool: ThreadPoolExecutor) -> None:
        self._folder, self._sts, self._pool = folder, sts, pool
        self._found: dict[str, Future[list[Resource]]] = {}

    def start(self, name: str) -> Future[list[Resource]]:
        """Begin the plan of a root, unless it was begun."""
        if name not in self._found:
            self._found[name] = self._pool.submit(self._plan, name, name)
        return self._found[name]

    def edited(self, name: str, root: str, edit: Edit, *targets: str) -> list[Resource]:
        """Return the plan of parts of a root, after `edit` has changed the copy of terraform/ it is made from."""
        if name not in self._found:
            self._found[name] = self._pool.submit(self._plan, name, root, edit, targets)
        return self._found[name].result()

    def __getitem__(self, name: str) -> list[Resource]:
        return self.start(name).result()

    def _plan(self, name: str, root: str, edit: Edit | None = None, targets: tuple[str, ...] = ()) -> list[Resource]:
        workplace = self._folder / name
        workplace.mkdir()
        planner = Planner(workplace, self._sts)
        if edit:
            edit(planner.terraform)
        if root == "bootstrap":
            return from_plan(planner.plan(planner.terraform / root, {"github_repository": "example/platform"}))
        variables = VARIABLES | OWN_VARIABLES.get(root, {})
        return from_plan(planner.plan(planner.terraform / "environments" / root, variables, targets))
