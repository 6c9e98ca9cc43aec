"""What AWS is asked, and what is made of its answers; EC2, EKS, IAM, RDS and SageMaker are moto's."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws
from typer.testing import CliRunner

from cloud import cli, preflight, up
from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.preflight import account as reading
from cloud.preflight.account import Account, asked
from cloud.preflight.assess import Limit, Unknown, Use
from cloud.preflight.needs import Counted, Need, Quota
from local.emulators.quotas import DEFAULTS, Quotas, Refused

OURS = [{"Key": "Project", "Value": "ml-platform"}, {"Key": "Environment", "Value": "dev"}]
THEIRS = [{"Key": "Project", "Value": "ml-platform"}, {"Key": "Environment", "Value": "prod"}]


def refused(operation: str, code: str = "AccessDeniedException") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "you may not"}}, operation)


class ServiceQuotas:
    """The emulated account's quotas, without a server; each operation can be refused."""

    class exceptions:  # as botocore calls it
        class NoSuchResourceException(Exception):
            """There is no such quota."""

    def __init__(self) -> None:
        self.quotas = Quotas("us-east-1", "123456789012")
        self.failing: dict[str, Exception] = {}
        self.pages = 0

    def _ask(self, action: str, **body: Any) -> dict[str, Any]:
        if error := self.failing.get(action):
            raise error
        try:
            return self.quotas.answer(action, body)
        except Refused as error:
            if error.code == "NoSuchResourceException":
                raise self.exceptions.NoSuchResourceException(str(error)) from None
            raise

    def get_service_quota(self, **body: Any) -> dict[str, Any]:
        return self._ask("GetServiceQuota", **body)

    def get_aws_default_service_quota(self, **body: Any) -> dict[str, Any]:
        return self._ask("GetAWSDefaultServiceQuota", **body)

    def get_paginator(self, operation: str) -> Any:
        action = {"list_service_quotas": "ListServiceQuotas"}.get(operation, "ListAWSDefaultServiceQuotas")
        outer = self

        class Pages:
            def paginate(self, **body: Any) -> Iterator[dict[str, Any]]:
                token: str | None = "0"
                while token is not None:
                    outer.pages += 1
                    page = outer._ask(action, **body, NextToken=token, MaxResults=30)
                    token = page.get("NextToken")
                    yield page

        return Pages()


class Mwaa:
    """Lists environments; moto has none."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def get_paginator(self, _: str) -> Any:
        names = self.names

        class Pages:
            def paginate(self) -> Iterator[dict[str, Any]]:
                yield from ({"Environments": [name]} for name in names)

        return Pages()


@functools.cache
def made(service: str) -> Any:
    """Return moto's client; to make one takes longer than a test."""
    return boto3.client(service, region_name="us-east-1")  # type: ignore[call-overload]


class World:
    """An account, and a caller's environment in it."""

    def __init__(self) -> None:
        self.environment = Environment("dev")
        self.own: dict[str, Any] = {
            "service-quotas": ServiceQuotas(),
            "mwaa": Mwaa("ml-platform-dev", "ml-platform-devil", "other"),
        }
        self.environment.client = self.client  # type: ignore[method-assign]
        self.account = Account(self.environment)

    @property
    def quotas(self) -> ServiceQuotas:
        found = self.own["service-quotas"]
        assert isinstance(found, ServiceQuotas)
        return found

    def client(self, service: str) -> Any:
        return self.own.get(service) or made(service)

    def use(self, counted: Counted, of: str = "", zones: tuple[str, ...] = ("us-east-1a",)) -> Use | Unknown:
        return self.account.use(Need("any", 1, Quota("any"), counted, of), zones)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield World()


# --- Quotas -----------------------------------------------------------------------------------------


def test_a_quota_of_the_account_comes_before_the_default(world: World) -> None:
    clusters = Quota("eks", "L-1194D53C")
    assert world.account.limit(clusters) == Limit("L-1194D53C", 100)  # AWS's default: the account has none of its own
    body = {"ServiceCode": "eks", "QuotaCode": "L-1194D53C", "DesiredValue": 120}
    world.quotas.quotas.answer("RequestServiceQuotaIncrease", body)
    assert world.account.limit(clusters) == Limit("L-1194D53C", 120)


def test_quotas_of_endpoints_are_found_by_name_and_read_once(world: World) -> None:
    code = next(quota.code for quota in DEFAULTS if quota.name == "ml.t2.medium for endpoint usage")
    assert world.account.limit(Quota("sagemaker", name="ml.t2.medium for endpoint usage")) == Limit(code, 2)
    pages = world.quotas.pages
    assert pages > 1
    assert isinstance(world.account.limit(Quota("sagemaker", name="ml.c5.large for endpoint usage")), Limit)
    assert world.quotas.pages == pages


def test_a_quota_that_aws_does_not_know_is_unknown(world: World) -> None:
    by_code = world.account.limit(Quota("ec2", "L-00000000"))
    by_name = world.account.limit(Quota("sagemaker", name="ml.z9.large for endpoint usage"))
    assert isinstance(by_code, Unknown)
    assert "no ec2/L-00000000" in by_code.reason
    assert isinstance(by_name, Unknown)
    assert "'ml.z9.large for endpoint usage'" in by_name.reason


@pytest.mark.parametrize("error", [refused("GetServiceQuota"), EndpointConnectionError(endpoint_url="https://nowhere")])
def test_a_quota_that_may_not_be_read_is_unknown_with_the_reason(world: World, error: Exception) -> None:
    world.quotas.failing["GetServiceQuota"] = error
    found = world.account.limit(Quota("ec2", "L-0263D0A3"))
    assert isinstance(found, Unknown)
    assert "AccessDenied" in found.reason or "nowhere" in found.reason


def test_only_what_aws_refuses_is_unknown() -> None:
    with pytest.raises(ZeroDivisionError):
        asked(lambda: 1 // 0)


# --- What is in use ---------------------------------------------------------------------------------


def test_networks_are_ours_by_their_tags(world: World) -> None:
    ec2 = world.client("ec2")
    before = world.use("vpcs")
    assert isinstance(before, Use)
    for tags in (OURS, THEIRS, OURS[:1]):
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        ec2.create_tags(Resources=[vpc], Tags=tags)
    assert world.use("vpcs") == Use((before.total or 0) + 3, 1)


def test_addresses_and_gateways_are_counted(world: World) -> None:
    ec2 = world.client("ec2")
    for tags in (OURS, THEIRS, THEIRS):
        allocated = ec2.allocate_address(Domain="vpc")["AllocationId"]
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.create_tags(Resources=[allocated, gateway], Tags=tags)
    assert world.use("elastic ips") == Use(3, 1)
    assert world.use("internet gateways") == Use(3, 1)


def test_nat_gateways_are_counted_in_the_fullest_of_our_zones(world: World) -> None:
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    assert world.use("nat gateways") == Use(0, 0)
    for number, (zone, tags) in enumerate((("a", OURS), ("b", THEIRS), ("b", THEIRS), ("b", OURS), ("c", THEIRS))):
        place = {"AvailabilityZone": f"us-east-1{zone}", "CidrBlock": f"10.0.{number}.0/24"}
        subnet = ec2.create_subnet(VpcId=vpc, **place)["Subnet"]["SubnetId"]
        allocated = ec2.allocate_address(Domain="vpc")["AllocationId"]
        made = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=allocated)["NatGateway"]["NatGatewayId"]
        ec2.create_tags(Resources=[made], Tags=tags)
    assert world.use("nat gateways", zones=("us-east-1a", "us-east-1b")) == Use(3, 1)
    assert world.use("nat gateways", zones=("us-east-1a",)) == Use(1, 1)


def test_nodes_count_by_their_vcpus_against_their_own_quota(world: World) -> None:
    ec2 = world.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    spot = {"InstanceMarketOptions": {"MarketType": "spot"}}
    for kind, tags, more in (
        ("m5.xlarge", OURS, {}),
        ("m5.2xlarge", THEIRS, {}),
        ("m5.xlarge", OURS, spot),
        ("g4dn.xlarge", OURS, {}),
    ):
        tagged = [{"ResourceType": "instance", "Tags": tags}]
        ec2.run_instances(ImageId=image, InstanceType=kind, MinCount=1, MaxCount=1, TagSpecifications=tagged, **more)
    assert world.use("node vcpus", "L-1216C47A") == Use(12, 4)
    assert world.use("node vcpus", "L-34B43A08") == Use(4, 4)
    assert world.use("node vcpus", "L-DB2E81BA") == Use(4, 4)
    assert world.use("node vcpus", "L-3819A6DF") == Use(0, 0)


def test_airflow_clusters_and_databases_are_ours_by_their_names(world: World) -> None:
    assert world.use("airflow environments") == Use(3, 1)
    for name in ("ml-platform-dev", "ml-platform-prod"):
        world.client("eks").create_cluster(name=name, roleArn="arn:aws:iam::123456789012:role/x", resourcesVpcConfig={})
        world.client("rds").create_db_instance(
            DBInstanceIdentifier=f"{name}-mlflow", DBInstanceClass="db.t4g.micro", Engine="postgres",
            MasterUsername="u", MasterUserPassword="p" * 12, AllocatedStorage=20,
        )  # fmt: skip
    assert world.use("clusters") == Use(2, 1)
    assert world.use("databases") == Use(2, 1)


def test_endpoints_count_by_the_instances_they_have_now(world: World) -> None:
    sagemaker = world.client("sagemaker")
    sagemaker.create_model(ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/x")
    for name, kind, count in (
        ("ml-platform-dev-flights", "ml.m5.large", 2),
        ("ml-platform-prod-flights", "ml.m5.large", 3),
        ("other", "ml.c5.large", 1),
    ):
        variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": count, "InstanceType": kind}
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert world.use("endpoint instances", "ml.m5.large") == Use(5, 2)
    assert world.use("endpoint instances") == Use(6, 2)


def test_what_is_in_use_may_be_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any) -> Any:
        raise refused("DescribeEndpoint")

    monkeypatch.setattr(reading.Account, "_endpoint_instances", deny)
    assert world.use("endpoint instances") == Unknown("DescribeEndpoint: AccessDeniedException: you may not")


# --- Roles and zones --------------------------------------------------------------------------------


def test_service_linked_roles_are_known_by_their_path(world: World) -> None:
    iam = world.client("iam")
    assert world.account.linked_roles() == frozenset()
    iam.create_service_linked_role(AWSServiceName="eks.amazonaws.com")
    iam.create_role(RoleName="rds.amazonaws.com", AssumeRolePolicyDocument="{}", Path="/")
    assert world.account.linked_roles() == {"eks.amazonaws.com"}


class Principal:
    """IAM and STS for a caller, whose policies let it make the role of EKS only."""

    def __init__(self, arn: str) -> None:
        self.arn = arn
        self.asked: list[dict[str, Any]] = []

    def get_caller_identity(self) -> dict[str, Any]:
        return {"Arn": self.arn, "Account": "123456789012"}

    def get_role(self, RoleName: str) -> dict[str, Any]:
        return {"Role": {"Arn": f"arn:aws:iam::123456789012:role/some/path/{RoleName}"}}

    def simulate_principal_policy(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        (context,) = asked["ContextEntries"]
        may = context["ContextKeyValues"] == ["eks.amazonaws.com"]
        return {"EvaluationResults": [{"EvalDecision": "allowed" if may else "implicitDeny"}]}


def principal(world: World, arn: str) -> Principal:
    found = Principal(arn)
    world.own |= {"iam": found, "sts": found}
    return found


def test_the_callers_own_policies_say_whether_it_may_make_a_role(world: World) -> None:
    who = principal(world, "arn:aws:sts::123456789012:assumed-role/deployer/session")
    assert world.account.may_link("eks.amazonaws.com") is True
    assert world.account.may_link("rds.amazonaws.com") is False
    assert {asked["PolicySourceArn"] for asked in who.asked} == {"arn:aws:iam::123456789012:role/some/path/deployer"}
    assert who.asked[0]["ResourceArns"] == ["arn:aws:iam::123456789012:role/aws-service-role/eks.amazonaws.com/*"]


def test_the_accounts_root_may_make_every_role(world: World) -> None:
    who = principal(world, "arn:aws:iam::123456789012:root")
    assert world.account.may_link("rds.amazonaws.com") is True
    assert who.asked == []


def test_of_a_federated_user_nobody_knows(world: World) -> None:
    principal(world, "arn:aws:sts::123456789012:federated-user/jane")
    assert isinstance(world.account.may_link("rds.amazonaws.com"), Unknown)


def test_who_may_not_ask_gets_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any, **__: Any) -> Any:
        raise refused("SimulatePrincipalPolicy", "AccessDenied")

    monkeypatch.setattr(principal(world, "arn:aws:iam::123456789012:user/jane"), "simulate_principal_policy", deny)
    found = world.account.may_link("rds.amazonaws.com")
    assert found == Unknown("SimulatePrincipalPolicy: AccessDenied: you may not")


def test_zones_have_names_and_ids_and_offer_instance_types(world: World) -> None:
    ids = world.account.zone_ids()
    assert ids["us-east-1a"].startswith("use1-az")
    offered = world.account.offered(["m5.xlarge"])
    assert set(offered) == {"m5.xlarge"}
    assert offered["m5.xlarge"] <= set(ids.values())
    assert "us-east-1a" in world.account.endpoints(["sts"])["sts"]


def test_the_zones_of_a_network_are_those_of_our_subnets_in_the_order_of_their_addresses(world: World) -> None:
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    assert world.account.network_zones() == []
    for number, zone, tags in ((16, "b", OURS), (0, "c", OURS), (240, "c", OURS), (32, "a", THEIRS), (9, "d", OURS)):
        place = {"AvailabilityZone": f"us-east-1{zone}", "CidrBlock": f"10.0.{number}.0/24"}
        subnet = ec2.create_subnet(VpcId=vpc, **place)["Subnet"]["SubnetId"]
        ec2.create_tags(Resources=[subnet], Tags=tags)
    assert world.account.network_zones() == ["us-east-1c", "us-east-1d", "us-east-1b"]


# --- The command ------------------------------------------------------------------------------------


def run(world: World, monkeypatch: pytest.MonkeyPatch, *options: str) -> Any:
    monkeypatch.setattr(cli, "Environment", lambda name: world.environment)
    world.own["sts"] = Principal("arn:aws:iam::123456789012:root")
    return CliRunner().invoke(cli.app, [*options, "--env", "dev"])


def test_everything_is_told_and_what_is_too_small_is_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(world, monkeypatch, "preflight", "--json")
    report = json.loads(done.stdout)
    lines = {line["what"]: line for line in report["lines"]}
    assert (done.exit_code, report["exit_code"]) == (3, 3)
    assert lines["standard on demand vCPUs"]["verdict"] == "too small"
    assert lines["VPCs"]["verdict"] == "enough"
    assert not any("GPU" in what for what in lines), "dev has no GPUs"
    assert set(report["too_small"]) == {what for what, line in lines.items() if line["ask"]}
    for line in lines.values():
        for command in line["ask"]:
            words = command.split()
            service, code, value = (words[words.index(option) + 1] for option in (
                "--service-code", "--quota-code", "--desired-value",
            ))  # fmt: skip
            body = {"ServiceCode": service, "QuotaCode": code, "DesiredValue": float(value)}
            world.quotas.quotas.answer("RequestServiceQuotaIncrease", body)
    again = run(world, monkeypatch, "preflight", "--json")
    assert json.loads(again.stdout)["too_small"] == []


def test_a_quota_that_may_not_be_read_is_told_and_is_not_enough(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.quotas.failing |= {
        "GetServiceQuota": refused("GetServiceQuota"),
        "ListServiceQuotas": refused("ListServiceQuotas"),
    }
    done = run(world, monkeypatch, "preflight", "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 4
    assert "VPCs" in report["unknown"]
    assert "ml.t2.medium for endpoints" in report["unknown"]
    line = next(line for line in report["lines"] if line["what"] == "VPCs")
    assert (line["verdict"], line["note"]) == ("unknown", "GetServiceQuota: AccessDeniedException: you may not")
    shown = run(world, monkeypatch, "preflight").stdout
    assert "Could not be told: " in shown
    assert "Enough of everything" not in shown


def test_up_stops_at_the_table_before_it_makes_anything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(cli.images, "build_and_push", lambda *_, **__: ran.append("images"))
    done = run(world, monkeypatch, "up")
    assert done.exit_code == 1
    assert "request-service-quota-increase" in done.stdout
    assert "standard on demand vCPUs (5 of 8)" in done.output
    assert not ran


def test_up_goes_on_where_nothing_is_known_to_be_too_small(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.quotas.failing |= {
        "GetServiceQuota": refused("GetServiceQuota"),
        "ListServiceQuotas": refused("ListServiceQuotas"),
    }
    steps: list[str] = []

    def first(found: list[up.Step], *_: Any) -> None:
        steps.extend(step.name for step in found)
        found[0].run()

    monkeypatch.setattr(cli.up, "run_steps", first)
    assert run(world, monkeypatch, "up").exit_code == 0
    assert steps[:2] == ["preflight", "images"]


def test_without_credentials_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment("dev")

    class Nobody:
        def get_caller_identity(self) -> Any:
            raise refused("GetCallerIdentity", "ExpiredToken")

    monkeypatch.setattr(environment, "client", lambda service: Nobody())
    with pytest.raises(CloudError, match="AWS does not know you"):
        preflight.of_environment(environment)
