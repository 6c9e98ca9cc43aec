"""The command line for the platform in AWS: plan, apply, push, check, estimate, destroy."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import botocore.exceptions
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloud import apply as applying
from cloud import bootstrap, cluster_config, cost, destroy, images, preflight, push_dags, smoke, status, train, up
from cloud.access import cluster_kubeconfig, open_ways
from cloud.airflow_api import airflow
from cloud.approve import answer
from cloud.dag_capacity import capacity_warning
from cloud.environments import NAMES, Environment
from cloud.errors import CloudError

app = typer.Typer(
    name="cloud",
    help="The ML platform in AWS. Signs in as every AWS tool does: profile, SSO or environment variables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

EnvOption = Annotated[str, typer.Option("--env", help=f"Environment: {', '.join(NAMES)}.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("bootstrap")
def bootstrap_command(
    github_repository: Annotated[str | None, typer.Option(help="Who may deploy, as owner/name; once.")] = None,
    region: Annotated[str | None, typer.Option(help="Region, where it is not the one of AWS_REGION; once.")] = None,
    yes: YesOption = False,
) -> None:
    """Make what the account needs once: state bucket, image repositories, the role that deploys."""
    with _errors():
        given = {"github_repository": github_repository, "region": region}
        bootstrap.bootstrap({name: value for name, value in given.items() if value}, _say, approved=yes)


@app.command("preflight")
def preflight_command(
    env: EnvOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Ask the account whether it has room for all that an environment needs; changes nothing.

    Exits with 0 when there is enough of everything, with 3 when something is too small, with 4 when nothing is too
    small as far as it could be told; with 1 when nothing could be asked at all.
    """
    with _errors():
        report = preflight.of_environment(Environment(env))
        if as_json:
            print(report.model_dump_json(indent=2))
        else:
            out.print(preflight.shown(report))
    raise typer.Exit(report.exit_code)


@app.command()
def plan(env: EnvOption) -> None:
    """Show what an apply would change."""
    with _errors():
        applying.plan(Environment(env))


@app.command()
def apply(env: EnvOption, yes: YesOption = False) -> None:
    """Make the environment what its folder says: shows the plan, fetches Airflow's packages, asks, applies."""
    with _errors():
        _apply(Environment(env), yes)


@app.command("destroy")
def destroy_command(
    env: EnvOption,
    keep_data: Annotated[bool, typer.Option("--keep-data", help="Keep buckets and a last database snapshot.")] = False,
    confirm: Annotated[str | None, typer.Option(help="The environment's name, instead of typing it.")] = None,
) -> None:
    """Take the environment down in one go, deployed models included, and see that nothing is left."""
    with _errors():
        environment = Environment(env)
        what = "keeping its buckets and a database snapshot" if keep_data else "with ALL its data, models and snapshots"
        if confirm is None and sys.stdin.isatty():
            err.print(f"This destroys [bold]{env}[/] in account {environment.account}, {what}.")
            confirm = typer.prompt("Type the name of the environment to go on", err=True)
        if confirm != env:
            raise CloudError(f"destroys {env}, {what}: confirm it with CONFIRM={env}; nothing was changed")
        left = destroy.destroy(environment, keep_data=keep_data, say=_say)
        if left:
            raise CloudError("still there: run the same command again, or delete by hand:\n" + "\n".join(left))
        out.print(f"{env} is gone" + (", its data is kept: `make apply` takes it in again" if keep_data else ""))


@app.command("images")
def images_command(
    env: EnvOption,
    source: Annotated[str | None, typer.Option("--from", help="Use the images of this environment.")] = None,
    allow_findings: Annotated[bool, typer.Option(help="Go on although a scan found something critical.")] = False,
) -> None:
    """Build, scan and push the images, or promote another environment's; write their digests down."""
    with _errors():
        environment = Environment(env)
        if source:
            named = images.promote(environment, Environment(source))
        else:
            named = images.build_and_push(environment, _say, allow_findings=allow_findings)
        for name, reference in sorted(named.items()):
            out.print(f"{name:9} {reference}")
        out.print(f"written to {(environment.folder / images.FILE).relative_to(environment.root)}: commit it")


@app.command("push-dags")
def push_dags_command(
    env: EnvOption, dry_run: Annotated[bool, typer.Option(help="Check and say what would change.")] = False
) -> None:
    """Check the DAG bundle, then make the DAG bucket hold exactly it; say what changed."""
    with _errors():
        _push_dags(Environment(env), dry_run=dry_run)


@app.command("cluster-config")
def cluster_config_command(
    env: EnvOption, dry_run: Annotated[bool, typer.Option(help="Check and say what would change.")] = False
) -> None:
    """Apply config/kubernetes to the cluster, remove what is gone, and wait for the autoscaler."""
    with _errors():
        _cluster_config(Environment(env), dry_run=dry_run)


@app.command("open")
def open_command(env: EnvOption) -> None:
    """Lead Airflow's page, MLflow and the Kubernetes API to localhost, through the bastion, until Ctrl-C.

    Exits with 0 after Ctrl-C, with 1 when something does not answer or a session ends.
    """
    with _errors():
        open_ways(Environment(env), _say)


@app.command("approve")
def approve_command(
    env: EnvOption,
    dataset: Annotated[str, typer.Option(help="Whose candidate: a file in config/models.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log with who you are.")] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Say no.")] = False,
    run: Annotated[str | None, typer.Option(help="Whose question, where several wait.")] = None,
    yes: YesOption = False,
) -> None:
    """Answer the question whether a dataset's candidate may go live."""
    with _errors():
        answer(
            Environment(env),
            dataset,
            approve=not reject,
            reason=reason,
            run=run,
            confirm=lambda question: yes or _confirmed(question),
            say=_say,
        )


@app.command("train")
def train_command(
    env: EnvOption,
    dataset: Annotated[str, typer.Option(help="Whose pipeline: a file in config/models.")] = "flights",
    month: Annotated[
        int | None, typer.Option(min=1, max=12, help="Land this month of 2013's flights first, as an example.")
    ] = None,
    unpause: Annotated[bool, typer.Option("--unpause", help="Unpause its training and deployment first.")] = False,
) -> None:
    """Start a dataset's pipeline and follow it to its end; safe to leave, the run goes on."""
    with _errors():
        train.train(Environment(env), dataset, month, _say, unpause=unpause)


@app.command("smoke")
def smoke_command(env: EnvOption) -> None:
    """Ask every part whether it works; changes nothing."""
    with _errors():
        _smoke(Environment(env))


@app.command("status")
def status_command(
    env: Annotated[
        str | None, typer.Option("--env", help=f"Environment: {', '.join(NAMES)}; this machine's when left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Say of every dataset what is live, what runs, what waits for whom, and what is wrong.

    Exits with 0 when all was read and nothing is wrong, with 3 when something is wrong, with 4 when nothing that was
    read is wrong but something could not be read; with 1 when nothing could be asked at all.
    """
    with _errors():
        report = status.of_environment(Environment(env), _say) if env else status.of_this_machine()
        if as_json:
            print(report.model_dump_json(indent=2))
        else:
            out.print(status.shown(report))
    raise typer.Exit(report.exit_code)


@app.command("cost")
def cost_command(
    env: Annotated[str | None, typer.Option("--env", help="One environment; all when left out.")] = None,
    markdown: Annotated[bool, typer.Option(help="As the table in docs/cost.md.")] = False,
) -> None:
    """Estimate the monthly price at rest and the price of a training hour; needs no account."""
    with _errors():
        estimates = [cost.estimate(name) for name in ([env] if env else NAMES)]
        if markdown:
            print(cost.markdown(estimates), end="")
            return
        for found in estimates:
            table = Table(title=f"{found.environment}, US dollars a month at rest ({cost.PRICES.region}, list prices)")
            table.add_column("part")
            table.add_column("what")
            table.add_column("a month", justify="right")
            for line in found.at_rest:
                table.add_row(line.part, line.what, f"{line.dollars:,.0f}")
            table.add_row("[bold]at rest[/]", "", f"[bold]{found.monthly:,.0f}[/]")
            out.print(table)
            out.print(f"An hour of training adds {found.training_hour:,.2f}: {found.training_what}")


@app.command("up")
def up_command(
    env: EnvOption,
    first: Annotated[str | None, typer.Option("--from", help="Begin with this step.")] = None,
    yes: YesOption = False,
) -> None:
    """All of it, in order; after a failure the same command goes on."""
    with _errors():
        environment = Environment(env)

        def make_images() -> None:
            if not (environment.folder / images.FILE).exists():
                images.build_and_push(environment, _say)

        steps = [
            up.Step("preflight", "20 s", lambda: _preflight(environment)),
            up.Step("images", "15 min", make_images),
            up.Step("apply", "45 min the first time", lambda: _apply(environment, yes)),
            up.Step("cluster-config", "2 min", lambda: _cluster_config(environment)),
            up.Step("push-dags", "1 min", lambda: _push_dags(environment)),
            up.Step("smoke", "1 min", lambda: _smoke(environment)),
        ]
        up.run_steps(steps, first, _say)


def main() -> None:
    """Run the command line."""
    app()


def _apply(environment: Environment, yes: bool) -> None:
    def approve(planned: dict[str, Any]) -> bool:
        found = applying.counts(planned)
        _say(", ".join(f"{count} to {kind}" for kind, count in found.items()))
        return yes or _confirmed("Apply this plan?")

    if not applying.apply(environment, approve, _say):
        raise CloudError("not approved; nothing was changed")
    environment.__dict__.pop("outputs", None)  # they are new


def _preflight(environment: Environment) -> None:
    report = preflight.of_environment(environment)
    out.print(preflight.shown(report))
    if report.too_small:
        raise CloudError(
            f"{environment.name} does not fit into this account: {preflight.summary(report)}. Ask as it says above, or "
            "go on all the same with FROM=images; what does not fit fails then, some of it only when it is used"
        )


def _push_dags(environment: Environment, dry_run: bool = False) -> None:
    outputs = environment.outputs
    with airflow(environment, _say) as api:
        report = push_dags.push(
            outputs["dags_bucket"],
            client=environment.client("s3"),
            api=api,
            root=environment.root,
            environment=environment.name,
            dry_run=dry_run,
        )
    out.print(escape("\n".join(report.lines())))
    if told := capacity_warning(environment):
        out.print(f"[yellow]warning[/]  {escape(told)}")


def _cluster_config(environment: Environment, dry_run: bool = False) -> None:
    outputs = environment.outputs
    with cluster_kubeconfig(environment, _say) as kubeconfig:
        report = cluster_config.apply(
            environment.name,
            cluster_name=outputs["cluster_name"],
            region=outputs["region"],
            kubeconfig=kubeconfig,
            dry_run=dry_run,
        )
    out.print(escape(str(report)))


def _smoke(environment: Environment) -> None:
    failed = []
    for check in smoke.smoke(environment, _say):
        mark = "[yellow]warning[/]" if check.warning else "[green]ok[/]" if check.passed else "[red]failed[/]"
        out.print(f"{mark}  {check.name}: {escape(check.detail)}")
        if not check.passed:
            failed.append(check.name)
    if failed:
        raise CloudError(f"not working in {environment.name}: {', '.join(failed)}")


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise CloudError("nobody can be asked here: read what is above, then pass YES=1; nothing was changed")
    return typer.confirm(question, err=True)


def _say(message: str) -> None:
    err.print(escape(message))


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """End with one message and exit code 1; a person's own mistakes never show a stack."""
    try:
        yield
    except CloudError as error:
        err.print(f"[red]cloud: error:[/] {escape(str(error))}")
        raise typer.Exit(1) from None
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        err.print(f"[red]cloud: error:[/] AWS answered: {escape(str(error))}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        err.print("cloud: interrupted; the same command goes on from there")
        raise typer.Exit(130) from None
