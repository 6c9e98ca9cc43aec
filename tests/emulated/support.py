"""One environment's way through the emulated account: apply, look at it, destroy."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloud.terraform import Terraform
from local.emulators import ACCOUNT, EmulatedAws
from local.emulators.workspace import Workspace
from tests.emulated.plans import Difference, differences
from tests.sessions import Sessions

ENVIRONMENTS = ("dev", "staging", "prod")
BROKEN = "staging"
"""The environment whose first apply meets a failure half-way."""
KEPT = "staging"
"""The environment that is destroyed twice: first with its data kept, then altogether."""
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:role/platform-engineer"
"""Who administers prod's cluster."""
FAULT = {"code": "InstanceQuotaExceeded", "message": "Cannot create more than 40 instances"}


@dataclass
class Story:
    """What happened to one environment."""

    name: str
    workspace: Workspace
    seconds: dict[str, float] = field(default_factory=dict)
    preflights: list[Any] = field(default_factory=list)
    """Of dev: in the new account, once what it asked for is granted, and once all is applied."""
    broken: Any = None
    """The apply that failed, where one was told to."""
    second_plan: list[Difference] = field(default_factory=list)
    pushed: Any = None
    pushed_again: str = ""
    sessions_left: list[int] = field(default_factory=list)
    """Sessions through the bastion that go on after the commands that used them."""
    smoked: Any = None
    deployed: dict[str, str] = field(default_factory=dict)
    """The endpoint's configuration before and after a deployment, and after Terraform planned again."""
    plan_after_deployment: list[Difference] = field(default_factory=list)
    kept: Kept | None = None
    """What there was between the two destroys, where there were two."""
    destroyed: Any = None

    @property
    def aws(self) -> EmulatedAws:
        """The account."""
        return self.workspace.aws

    @property
    def prefix(self) -> str:
        """What all names begin with."""
        return f"ml-platform-{self.name}"

    @property
    def outputs(self) -> dict[str, Any]:
        """The root's outputs."""
        return self.terraform.output()

    @property
    def terraform(self) -> Terraform:
        """Terraform in the root, which the apply has initialised."""
        return Terraform(self.workspace.root(self.name), self.workspace.terraform_environment)

    def apply(self) -> None:
        """Apply, plan again, push the DAGs twice."""
        values: dict[str, object] = {"alert_email_addresses": ["team@example.com"]}
        if self.name != "dev":
            values |= {"mlflow_certificate_arn": _certificate(self.aws), "mlflow_domain_name": "mlflow.example.com"}
        if self.name == "prod":
            values["admin_role_arns"] = [ADMINISTRATOR]
        self.workspace.configure(self.name, values)
        if self.name == "dev":
            with self._timed("preflight"):
                self.preflight()
                self.ask_for_more()
                self.preflight()
        if self.name == BROKEN:
            self.aws.fault(
                "rds", "CreateDBInstance", contains=self.prefix, code=FAULT["code"], message=FAULT["message"]
            )
            with self._timed("broken apply"):
                self.broken = self.workspace.cloud("apply", "--env", self.name, "--yes", check=False)
        with self._timed("apply"):
            self.workspace.cloud("apply", "--env", self.name, "--yes")
        if self.name == "dev":
            self.preflight()
        with self._timed("second plan"):
            self.second_plan = self.plan()
        inside = self.way_in()
        with self._timed("push-dags"):
            self.pushed = self.workspace.cloud("push-dags", "--env", self.name, environment=inside)
            self.pushed_again = self.workspace.cloud("push-dags", "--env", self.name, environment=inside).stdout
        with self._timed("smoke"):
            self.smoked = self.workspace.cloud("smoke", "--env", self.name, check=False, environment=inside)
        self.sessions_left = self.sessions.running()

    @cached_property
    def sessions(self) -> Sessions:
        """Systems Manager's, of which the account has none: they lead to Airflow's page."""
        return Sessions(self.workspace.folder / f"sessions-{self.name}")

    def way_in(self) -> dict[str, str]:
        """Return variables for commands that go through the bastion, as a person's do: AWS's CLI, and whom to trust."""
        host = urlsplit(self.outputs["airflow_url"]).hostname
        self.sessions.knows([self.outputs["bastion_instance_id"]], {f"{host}:443": self.aws.airflow_port})
        return {
            "PATH": f"{self.sessions.folder}{os.pathsep}{os.environ['PATH']}",
            "SSL_CERT_FILE": str(self.aws.airflow_authority),
        }

    def preflight(self) -> None:
        """Ask whether the account has room."""
        self.preflights.append(self.workspace.cloud("preflight", "--env", self.name, check=False))

    def ask_for_more(self) -> None:
        """Do what the last preflight said, command by command; the emulated account grants at once."""
        for line in self.preflights[-1].stdout.splitlines():
            words = line.split()
            if words[:2] == ["aws", "service-quotas"]:
                given = dict(zip(words[3::2], words[4::2], strict=True))
                self.aws.client("service-quotas").request_service_quota_increase(
                    ServiceCode=given["--service-code"],
                    QuotaCode=given["--quota-code"],
                    DesiredValue=float(given["--desired-value"]),
                )

    def plan(self) -> list[Difference]:
        """Return what Terraform would change now."""
        terraform = self.terraform
        saved = self.workspace.folder / f"{self.name}.plan"
        terraform.run("plan", "-input=false", "-parallelism=20", f"-out={saved}")
        return differences(terraform.show(str(saved)))

    def deploy(self) -> None:
        """Put another model live, as the deployer does, and have Terraform plan after that."""
        sagemaker = self.aws.client("sagemaker")
        endpoint = f"{self.prefix}-flights"
        before = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
        (variant,) = sagemaker.describe_endpoint_config(EndpointConfigName=before)["ProductionVariants"]
        model = sagemaker.describe_model(ModelName=variant["ModelName"])
        name = f"{endpoint}-v1"
        image = {"Image": model["PrimaryContainer"]["Image"]}
        sagemaker.create_model(ModelName=name, PrimaryContainer=image, ExecutionRoleArn=model["ExecutionRoleArn"])
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[{**variant, "ModelName": name}])
        sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=name)
        deadline = time.monotonic() + 120
        while (found := sagemaker.describe_endpoint(EndpointName=endpoint))["EndpointStatus"] != "InService":
            if time.monotonic() > deadline:
                raise AssertionError(f"{endpoint} is {found['EndpointStatus']}: {found.get('FailureReason')}")
            time.sleep(0.2)
        with self._timed("plan after a deployment"):
            self.plan_after_deployment = self.plan()
        self.deployed = {"before": before, "new": name, "live": found["EndpointConfigName"]}

    def destroy(self) -> None:
        """Deploy something, and destroy it all; how that ended is looked at by tests."""
        self.deploy()
        if self.name == KEPT:
            with self._timed("destroy, data kept"):
                done = self.workspace.cloud(
                    "destroy", "--env", self.name, "--confirm", self.name, "--keep-data", check=False
                )
            self.kept = Kept.look(self, done)
        with self._timed("destroy"):
            self.destroyed = self.workspace.cloud("destroy", "--env", self.name, "--confirm", self.name, check=False)

    def _timed(self, what: str) -> _Timer:
        return _Timer(self.seconds, what)


@dataclass(frozen=True)
class Kept:
    """An environment that was destroyed, but for its data."""

    done: Any
    buckets: set[str]
    bundle: set[str]
    snapshots: set[str]
    databases: set[str]
    clusters: set[str]
    files: set[str]

    @classmethod
    def look(cls, story: Story, done: Any) -> Kept:
        """Ask the account and look into the root's folder."""
        aws, prefix = story.aws, f"{story.prefix}-"
        s3, rds = aws.client("s3"), aws.client("rds")
        buckets = {b["Name"] for b in s3.list_buckets()["Buckets"] if b["Name"].startswith(prefix)}
        dags = next((name for name in buckets if "-dags-" in name), None)
        objects = s3.list_objects_v2(Bucket=dags).get("Contents", []) if dags else []
        snapshots = rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
        databases = rds.describe_db_instances()["DBInstances"]
        return cls(
            done=done,
            buckets=buckets,
            bundle={entry["Key"] for entry in objects},
            snapshots={s["DBSnapshotIdentifier"] for s in snapshots if s["DBSnapshotIdentifier"].startswith(prefix)},
            databases={d["DBInstanceIdentifier"] for d in databases if d["DBInstanceIdentifier"].startswith(prefix)},
            clusters={name for name in aws.client("eks").list_clusters()["clusters"] if name == story.prefix},
            files={path.name for path in story.workspace.root(story.name).glob("kept_data*")},
        )


class _Timer:
    def __init__(self, seconds: dict[str, float], what: str) -> None:
        self._seconds = seconds
        self._what = what

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._what] = round(time.monotonic() - self._began, 1)


class Stories:
    """All environments at the same time: an apply mostly waits, so three take little longer than one."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.aws = EmulatedAws(folder / "account")
        self.aws.start()
        self.workspace = Workspace(folder / "project", self.aws)
        self.stories = {name: Story(name, self.workspace) for name in names}
        self.before: set[str] = set()
        self.bootstrap_seconds = 0.0
        self._pool = ThreadPoolExecutor(len(names) or 1)
        self._lock = threading.Lock()
        self._applies: dict[str, Future[None]] = {}
        self._destroys: dict[str, Future[None]] = {}

    def prepare(self) -> None:
        """Bootstrap the account."""
        from tests.emulated.inventory import take

        began = time.monotonic()
        self.workspace.bootstrap()
        self.bootstrap_seconds = round(time.monotonic() - began, 1)
        self.before = take(self.aws)

    def applied(self, name: str) -> Story:
        """Return an environment once it is applied; the first caller starts all."""
        with self._lock:
            if not self._applies:
                self._applies = {n: self._pool.submit(story.apply) for n, story in self.stories.items()}
        self._applies[name].result()
        return self.stories[name]

    def all_applied(self) -> list[Story]:
        """Return all environments once they are applied."""
        return [self.applied(name) for name in self.stories]

    def destroyed(self, name: str) -> Story:
        """Return an environment once it is destroyed; the first caller starts all."""
        with self._lock:
            if not self._destroys:
                self._destroys = {n: self._pool.submit(story.destroy) for n, story in self.stories.items()}
        self._destroys[name].result()
        return self.stories[name]

    def stop(self) -> None:
        """Wait for what runs, and stop the account."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.aws.stop()


_certificates: dict[str, str] = {}


def _certificate(aws: EmulatedAws) -> str:
    """Return the ARN of a certificate in the account, as a person would have requested it before."""
    if aws.url not in _certificates:
        acm = aws.client("acm")
        _certificates[aws.url] = acm.request_certificate(DomainName="mlflow.example.com")["CertificateArn"]
    return _certificates[aws.url]
