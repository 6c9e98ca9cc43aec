"""Seconds to plan, apply and destroy each environment on emulators: `make bench-terraform`.

One environment after the other in an account of its own, so that none slows the next. `plan` is the first;
`plan again` finds nothing to do. Prints a Markdown table with the machine named.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from cloud.environments import NAMES
from local.emulators import EmulatedAws
from local.emulators.workspace import PLATFORM, Workspace

STEPS = ("plan", "apply", "plan again", "destroy")
GOAL = ("dev", "apply", 180.0)
"""What CI can wait for, on two cores."""


@dataclass(frozen=True)
class Measurement:
    """One environment's seconds by step, how much of them the processors worked, and its number of resources."""

    environment: str
    resources: int
    seconds: dict[str, float]
    busy: dict[str, float]


def main() -> None:
    """Measure and print."""
    found = []
    for name in NAMES:
        with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder, EmulatedAws(Path(folder, "account")) as aws:
            found.append(measure(Workspace(Path(folder, "project"), aws), name))
    print(render(found))


def measure(workspace: Workspace, name: str) -> Measurement:
    """Plan, apply, plan again and destroy one environment."""
    aws = workspace.aws
    aws.client("s3").create_bucket(Bucket=PLATFORM.state_bucket(aws.account, aws.region))
    workspace.configure(name, values(workspace, name))
    terraform = workspace.terraform(name)
    seconds: dict[str, float] = {}
    busy: dict[str, float] = {}

    def timed(step: str, work: Callable[[], object]) -> None:
        began, children = time.perf_counter(), os.times()
        work()
        after = os.times()
        seconds[step] = time.perf_counter() - began
        busy[step] = sum(
            getattr(after, kind) - getattr(children, kind) for kind in ("children_user", "children_system")
        )
        print(f"{name}: {step} {seconds[step]:.0f} s", file=sys.stderr, flush=True)

    saved = str(workspace.folder / "plan")
    timed("plan", lambda: terraform.run("plan", "-input=false", "-parallelism=20", f"-out={saved}"))
    timed("apply", lambda: terraform.run("apply", "-input=false", "-parallelism=20", saved))
    resources = sum(1 for line in terraform.run("state", "list").stdout.splitlines() if ".data." not in f".{line}")
    timed("plan again", lambda: terraform.run("plan", "-input=false", "-parallelism=20"))
    timed("destroy", lambda: workspace.cloud("destroy", "--env", name, "--confirm", name))
    return Measurement(name, resources, seconds, busy)


def values(workspace: Workspace, name: str) -> dict[str, object]:
    """Return the variables that an environment needs besides its images: with HTTPS, a certificate."""
    if name == "dev":
        return {}
    made = workspace.aws.client("acm").request_certificate(DomainName="mlflow.example.com")
    return {"mlflow_certificate_arn": made["CertificateArn"], "mlflow_domain_name": "mlflow.example.com"}


def render(found: list[Measurement]) -> str:
    """Return the table."""
    lines = [
        "Seconds; in brackets those that processors were busy with Terraform itself, the rest is waiting.",
        f"Machine: {machine.describe()}",
        "",
        f"| environment | resources | {' | '.join(STEPS)} |",
        f"|---|---:|{'---:|' * len(STEPS)}",
    ]
    for row in found:
        cells = [f"{row.seconds[step]:.0f} ({row.busy[step]:.0f})" for step in STEPS]
        lines.append(f"| {row.environment} | {row.resources} | {' | '.join(cells)} |")
    name, step, limit = GOAL
    took = next(row.seconds[step] for row in found if row.environment == name)
    lines += ["", f"Goal: {step} of {name} in {limit:.0f} s or less: {'met' if took <= limit else 'NOT met'}."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
