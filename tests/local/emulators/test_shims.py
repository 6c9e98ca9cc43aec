"""What the shims put right, through real clients, and that the README lists every one of them."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from local.emulators import ACCOUNT, EmulatedAws
from local.emulators.airflow_page import AirflowPage
from local.emulators.shims import shimmed
from local.platform.home import ROOT

ROLE = f"arn:aws:iam::{ACCOUNT}:role/any"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000"


def test_the_readme_lists_every_shim() -> None:
    text = (ROOT / "local" / "emulators" / "README.md").read_text()
    listed = {
        (row[0], operation)
        for row in re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \|", text, re.MULTILINE)
        for operation in re.findall(r"`([A-Z]\w+)`", row[1])
    }
    assert listed == set(shimmed())


@pytest.fixture(scope="module")
def role(aws: EmulatedAws) -> str:
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    arn: str = aws.client("iam").create_role(RoleName="shims", AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    return arn


@pytest.fixture(scope="module")
def cluster(aws: EmulatedAws, role: str) -> str:
    aws.client("eks").create_cluster(
        name="shims",
        roleArn=role,
        resourcesVpcConfig={"subnetIds": ["subnet-00000001"]},
        upgradePolicy={"supportType": "STANDARD"},
    )
    return "shims"


def test_an_airflow_environment_keeps_what_it_was_told(aws: EmulatedAws) -> None:
    mwaa = aws.client("mwaa")
    mwaa.create_environment(
        Name="shims", ExecutionRoleArn=ROLE, SourceBucketArn="arn:aws:s3:::dags-of-shims", DagS3Path="dags", KmsKey=KEY,
        AirflowVersion="3.2.1", RequirementsS3Path="requirements.txt", RequirementsS3ObjectVersion="1",
        NetworkConfiguration={"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
        LoggingConfiguration={"TaskLogs": {"Enabled": True, "LogLevel": "INFO"}},
    )  # fmt: skip
    mwaa.update_environment(Name="shims", RequirementsS3ObjectVersion="2", MaxWorkers=3)
    found = mwaa.get_environment(Name="shims")["Environment"]
    assert (found["KmsKey"], found["RequirementsS3ObjectVersion"], found["MaxWorkers"]) == (KEY, "2", 3)
    assert found["LoggingConfiguration"]["TaskLogs"]["CloudWatchLogGroupArn"].endswith(":log-group:airflow-shims-Task")
    mwaa.delete_environment(Name="shims")


@pytest.fixture
def airflow(aws: EmulatedAws) -> Iterator[str]:
    """An environment with a private page, as AWS makes it where nothing else is said."""
    aws.client("mwaa").create_environment(
        Name="paged", ExecutionRoleArn=ROLE, SourceBucketArn="arn:aws:s3:::dags-of-shims", DagS3Path="dags",
        NetworkConfiguration={"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
    )  # fmt: skip
    yield "paged"
    aws.client("mwaa").delete_environment(Name="paged")


def test_a_private_page_s_api_is_refused_to_who_comes_from_outside(aws: EmulatedAws, airflow: str) -> None:
    mwaa = aws.client("mwaa")
    with pytest.raises(ClientError, match="Private webserver environments can only call InvokeRestApi within a VPC"):
        mwaa.invoke_rest_api(Name=airflow, Method="GET", Path="/pools")
    mwaa.update_environment(Name=airflow, WebserverAccessMode="PUBLIC_ONLY")
    assert mwaa.get_environment(Name=airflow)["Environment"]["WebserverAccessMode"] == "PUBLIC_ONLY"
    assert mwaa.invoke_rest_api(Name=airflow, Method="GET", Path="/pools")["RestApiResponse"]["total_entries"] == 1


def test_airflow_s_page_takes_a_token_of_aws_and_gives_a_session(aws: EmulatedAws, airflow: str) -> None:
    mwaa = aws.client("mwaa")
    token = mwaa.create_web_login_token(Name=airflow)
    host = token["WebServerHostname"]
    assert host == mwaa.get_environment(Name=airflow)["Environment"]["WebserverUrl"]
    own = {"Host": host}, {"sni_hostname": host}
    context = ssl.create_default_context(cafile=str(aws.airflow_authority))
    with httpx.Client(verify=context, base_url=f"https://127.0.0.1:{aws.airflow_port}", trust_env=False) as http:

        def ask(method: str, path: str, more: dict[str, str] | None = None, **sent: Any) -> httpx.Response:
            headers, extensions = own
            return http.request(method, path, headers={**headers, **(more or {})}, extensions=extensions, **sent)

        assert ask("GET", "/").status_code == 302
        assert ask("GET", "/api/v2/pools").status_code == 401
        assert ask("POST", "/pluginsv2/aws_mwaa/login", data={"token": "another"}).status_code == 403
        signed_in = ask("POST", "/pluginsv2/aws_mwaa/login", data={"token": token["WebToken"]})
        (session,) = [one.partition(";")[0] for one in signed_in.headers.get_list("Set-Cookie")]
        bearer = {"Authorization": f"Bearer {session.removeprefix('_token=')}"}
        made = ask("POST", "/api/v2/pools", bearer, json={"name": "mine", "slots": 2})
        assert (made.status_code, made.json()["name"]) == (201, "mine")
        assert ask("GET", "/api/v2/pools?limit=1&offset=1", bearer).json()["pools"][0]["name"] == "mine"
        own[0]["Host"] = host.replace(airflow, "nobody")
        assert ask("GET", "/").status_code == 404


def test_tokens_and_sessions_of_airflow_s_page_end() -> None:
    now = [0.0]
    page = AirflowPage(lambda: now[0])

    def sign_in(token: str) -> str | None:
        answer = page.answer("POST", "/pluginsv2/aws_mwaa/login", {}, f"token={token}".encode())
        return answer.headers.get("Set-Cookie")

    page.expect("t")
    now[0] = 59
    session = str(sign_in("t")).removeprefix("_token=").partition(";")[0]
    now[0] = 61
    assert sign_in("t") is None

    def status() -> int:
        return page.answer("GET", "/api/v2/pools", {"Authorization": f"Bearer {session}"}, b"").status

    assert status() == 200
    now[0] = 59 + 12 * 3600
    assert status() == 401


def test_an_airflow_environment_that_aws_would_refuse(aws: EmulatedAws) -> None:
    with pytest.raises(ClientError, match="failed to satisfy constraint"):
        aws.client("mwaa").create_environment(
            Name="1-begins-with-a-digit", ExecutionRoleArn=ROLE, SourceBucketArn="arn:aws:s3:::dags-of-shims",
            DagS3Path="dags",
            NetworkConfiguration={"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
        )  # fmt: skip


def test_a_cluster_keeps_and_changes_what_it_was_told(aws: EmulatedAws, cluster: str) -> None:
    eks = aws.client("eks")
    assert eks.describe_cluster(name=cluster)["cluster"]["upgradePolicy"] == {"supportType": "STANDARD"}
    update = eks.update_cluster_config(name=cluster, upgradePolicy={"supportType": "EXTENDED"})["update"]
    assert eks.describe_update(name=cluster, updateId=update["id"])["update"]["status"] == "Successful"
    found = eks.describe_cluster(name=cluster)["cluster"]
    assert found["upgradePolicy"] == {"supportType": "EXTENDED"}
    assert found["certificateAuthority"]["data"]
    with pytest.raises(ClientError) as missing:
        eks.update_cluster_config(name="nothing", upgradePolicy={"supportType": "EXTENDED"})
    assert missing.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_node_group_keeps_and_changes_what_it_was_told(aws: EmulatedAws, cluster: str, role: str) -> None:
    eks = aws.client("eks")
    group: dict[str, Any] = {"clusterName": cluster, "nodegroupName": "gpu"}
    eks.create_nodegroup(
        **group, nodeRole=role, subnets=["subnet-00000001"], launchTemplate={"id": "lt-1", "version": "1"},
        scalingConfig={"minSize": 0, "maxSize": 2, "desiredSize": 0}, labels={"a": "b"},
        taints=[{"key": "gpu", "value": "true", "effect": "NO_SCHEDULE"}],
    )  # fmt: skip
    eks.update_nodegroup_config(
        **group, scalingConfig={"maxSize": 5}, labels={"addOrUpdateLabels": {"c": "d"}, "removeLabels": ["a"]}
    )
    eks.update_nodegroup_version(**group, launchTemplate={"id": "lt-1", "version": "2"})
    found = eks.describe_nodegroup(**group)["nodegroup"]
    assert found["scalingConfig"] == {"minSize": 0, "maxSize": 5, "desiredSize": 0}
    assert found["labels"] == {"c": "d"}
    assert found["launchTemplate"]["version"] == "2"
    assert "diskSize" not in found
    eks.delete_nodegroup(**group)


def test_a_node_group_with_two_disk_sizes_is_refused(aws: EmulatedAws, cluster: str, role: str) -> None:
    with pytest.raises(ClientError, match="within the launch template"):
        aws.client("eks").create_nodegroup(
            clusterName=cluster, nodegroupName="x", nodeRole=role, subnets=["subnet-00000001"], diskSize=20,
            launchTemplate={"id": "lt-1", "version": "1"},
        )  # fmt: skip


def test_a_database_with_a_managed_password(aws: EmulatedAws) -> None:
    rds, secrets = aws.client("rds"), aws.client("secretsmanager")
    rds.create_db_instance(
        DBInstanceIdentifier="shims", DBInstanceClass="db.t4g.micro", Engine="postgres", MasterUsername="mlflow",
        ManageMasterUserPassword=True, AllocatedStorage=20, PreferredBackupWindow="01:00-02:00",
        EnableCloudwatchLogsExports=["postgresql"],
    )  # fmt: skip
    (found,) = rds.describe_db_instances(DBInstanceIdentifier="shims")["DBInstances"]
    assert found["PreferredBackupWindow"] == "01:00-02:00"
    assert found["EnabledCloudwatchLogsExports"] == ["postgresql"]
    arn = found["MasterUserSecret"]["SecretArn"]
    assert json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])["username"] == "mlflow"
    rds.modify_db_instance(
        DBInstanceIdentifier="shims",
        CloudwatchLogsExportConfiguration={"EnableLogTypes": ["upgrade"], "DisableLogTypes": ["postgresql"]},
    )
    (found,) = rds.describe_db_instances(DBInstanceIdentifier="shims")["DBInstances"]
    assert found["EnabledCloudwatchLogsExports"] == ["upgrade"]
    rds.delete_db_instance(DBInstanceIdentifier="shims", SkipFinalSnapshot=True)
    with pytest.raises(ClientError):
        secrets.get_secret_value(SecretId=arn)


def test_two_passwords_are_refused(aws: EmulatedAws) -> None:
    with pytest.raises(ClientError) as refused:
        aws.client("rds").create_db_instance(
            DBInstanceIdentifier="two", DBInstanceClass="db.t4g.micro", Engine="postgres", MasterUsername="mlflow",
            ManageMasterUserPassword=True, MasterUserPassword="long-enough-for-rds",
        )  # fmt: skip
    assert refused.value.response["Error"]["Code"] == "InvalidParameterCombination"


def test_vpc_endpoints_keep_policy_and_groups(aws: EmulatedAws) -> None:
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="shims", Description="x", VpcId=vpc)["GroupId"]
    made = ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName="com.amazonaws.us-east-1.sts", VpcEndpointType="Interface", SecurityGroupIds=[group],
        PrivateDnsEnabled=True, PolicyDocument="{}",
    )["VpcEndpoint"]  # fmt: skip
    (found,) = ec2.describe_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])["VpcEndpoints"]
    for endpoint in (made, found):
        assert [g["GroupId"] for g in endpoint["Groups"]] == [group]
        assert (endpoint["PrivateDnsEnabled"], endpoint["PolicyDocument"]) == (True, "{}")


def test_flow_logs_keep_their_role_interval_and_tags(aws: EmulatedAws) -> None:
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.98.0.0/16")["Vpc"]["VpcId"]
    (identifier,) = ec2.create_flow_logs(
        ResourceIds=[vpc], ResourceType="VPC", TrafficType="ALL", LogGroupName="g", DeliverLogsPermissionArn=ROLE,
        MaxAggregationInterval=60,
        TagSpecifications=[{"ResourceType": "vpc-flow-log", "Tags": [{"Key": "a", "Value": "b"}]}],
    )["FlowLogIds"]  # fmt: skip
    (found,) = ec2.describe_flow_logs(FlowLogIds=[identifier])["FlowLogs"]
    assert (found["DeliverLogsPermissionArn"], found["MaxAggregationInterval"]) == (ROLE, 60)
    assert found["Tags"] == [{"Key": "a", "Value": "b"}]


def test_launch_templates_keep_keys_and_groups_by_version(aws: EmulatedAws) -> None:
    ec2 = aws.client("ec2")

    def data(key: str) -> dict[str, Any]:
        return {
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "KmsKeyId": key}}],
            "NetworkInterfaces": [{"DeviceIndex": 0, "DeleteOnTermination": True, "Groups": ["sg-1", "sg-2"]}],
        }

    ec2.create_launch_template(LaunchTemplateName="shims", LaunchTemplateData=data("one"))
    ec2.create_launch_template_version(LaunchTemplateName="shims", LaunchTemplateData=data("two"))
    versions = ec2.describe_launch_template_versions(LaunchTemplateName="shims")["LaunchTemplateVersions"]
    found = {v["VersionNumber"]: v["LaunchTemplateData"] for v in versions}
    assert {n: d["BlockDeviceMappings"][0]["Ebs"]["KmsKeyId"] for n, d in found.items()} == {1: "one", 2: "two"}
    assert found[2]["NetworkInterfaces"][0]["Groups"] == ["sg-1", "sg-2"]
    assert found[2]["NetworkInterfaces"][0]["DeleteOnTermination"] is True


def test_tags_of_scaling_groups_are_filtered(aws: EmulatedAws) -> None:
    autoscaling = aws.client("autoscaling")
    for group in ("one", "two"):
        tag = {"ResourceId": group, "ResourceType": "auto-scaling-group", "Key": "k", "Value": group}
        autoscaling.create_or_update_tags(Tags=[{**tag, "PropagateAtLaunch": False}])
    filters = [{"Name": "auto-scaling-group", "Values": ["two"]}, {"Name": "key", "Values": ["k"]}]
    assert [tag["Value"] for tag in autoscaling.describe_tags(Filters=filters)["Tags"]] == ["two"]


def test_what_was_deleted_of_ecs_has_no_tags(aws: EmulatedAws) -> None:
    ecs = aws.client("ecs")
    ecs.create_cluster(clusterName="shims")
    ecs.register_task_definition(family="shims", containerDefinitions=[{"name": "a", "image": "b", "memory": 64}])
    made = ecs.create_service(
        cluster="shims", serviceName="s", taskDefinition="shims", desiredCount=0, tags=[{"key": "of", "value": "b"}]
    )["service"]
    assert made["availabilityZoneRebalancing"] == "DISABLED"
    tagging = aws.client("resourcegroupstaggingapi")

    def tagged() -> list[str]:
        found = tagging.get_resources(TagFilters=[{"Key": "of"}])["ResourceTagMappingList"]
        return [resource["ResourceARN"] for resource in found]

    assert made["serviceArn"] in tagged()
    (definition,) = ecs.list_task_definitions(familyPrefix="shims")["taskDefinitionArns"]
    ecs.tag_resource(resourceArn=definition, tags=[{"key": "of", "value": "b"}])
    ecs.deregister_task_definition(taskDefinition=definition)
    assert definition in tagged()  # inactive, and still listed, as in AWS
    ecs.delete_task_definitions(taskDefinitions=[definition])
    assert definition not in tagged()
    ecs.delete_service(cluster="shims", service="s", force=True)
    assert made["serviceArn"] not in tagged()


def test_quotas_are_those_of_a_new_account_until_more_is_asked_for(aws: EmulatedAws) -> None:
    quotas = aws.client("service-quotas")
    gpus = {"ServiceCode": "ec2", "QuotaCode": "L-DB2E81BA"}
    found = quotas.get_service_quota(**gpus)["Quota"]
    assert (found["QuotaName"], found["Value"]) == ("Running On-Demand G and VT instances", 0)
    quotas.request_service_quota_increase(**gpus, DesiredValue=8)
    assert quotas.get_service_quota(**gpus)["Quota"]["Value"] == 8
    assert quotas.get_aws_default_service_quota(**gpus)["Quota"]["Value"] == 0
    with pytest.raises(ClientError, match="greater than the current"):
        quotas.request_service_quota_increase(**gpus, DesiredValue=8)


def test_a_quota_that_the_account_has_none_of_its_own_of_has_a_default(aws: EmulatedAws) -> None:
    quotas = aws.client("service-quotas")
    clusters = {"ServiceCode": "eks", "QuotaCode": "L-1194D53C"}
    with pytest.raises(quotas.exceptions.NoSuchResourceException):
        quotas.get_service_quota(**clusters)
    assert quotas.get_aws_default_service_quota(**clusters)["Quota"]["Value"] == 100


def test_quotas_come_in_pages(aws: EmulatedAws) -> None:
    pages = list(
        aws.client("service-quotas")
        .get_paginator("list_service_quotas")
        .paginate(ServiceCode="sagemaker", PaginationConfig={"PageSize": 20})
    )
    names = [quota["QuotaName"] for page in pages for quota in page["Quotas"]]
    assert len(pages) > 1
    assert len(names) == len(set(names))
    assert "ml.t2.medium for endpoint usage" in names


def test_a_request_for_quotas_that_aws_would_refuse(aws: EmulatedAws) -> None:
    quotas = aws.client("service-quotas")
    with pytest.raises(ClientError, match="failed to satisfy constraint"):
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="not a code")
    with pytest.raises(quotas.exceptions.NoSuchResourceException):
        quotas.list_service_quotas(ServiceCode="nonsense")


def test_instance_types_have_their_vcpus(aws: EmulatedAws) -> None:
    ec2 = aws.client("ec2")
    found = ec2.describe_instance_types(InstanceTypes=["t3.large", "m6i.xlarge", "g5.12xlarge"])["InstanceTypes"]
    assert {one["InstanceType"]: one["VCpuInfo"]["DefaultVCpus"] for one in found} == {
        "t3.large": 2,
        "m6i.xlarge": 4,
        "g5.12xlarge": 48,
    }
    with pytest.raises(ClientError, match="InvalidInstanceType"):
        ec2.describe_instance_types(InstanceTypes=["large"])


def offered(aws: EmulatedAws, kind: str) -> set[str]:
    offers = aws.client("ec2").describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [kind]}]
    )["InstanceTypeOfferings"]
    return {offer["Location"].removeprefix("us-east-1") for offer in offers}


def test_zones_are_like_an_accounts_own(aws: EmulatedAws) -> None:
    ec2 = aws.client("ec2")
    ordinary = [
        {"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]},
        {"Name": "opt-in-status", "Values": ["opt-in-not-required"]},
    ]  # fmt: skip
    zones = ec2.describe_availability_zones(Filters=ordinary)["AvailabilityZones"]
    ids = [zone["ZoneId"] for zone in zones]
    assert len(ids) == 6
    assert ids != sorted(ids)
    assert [zone["ZoneName"] for zone in zones if zone["ZoneId"] == "use1-az3"] == ["us-east-1c"]
    assert not ec2.describe_availability_zones(Filters=[{"Name": "zone-type", "Values": ["local-zone"]}])[
        "AvailabilityZones"
    ]
    assert (offered(aws, "m6i.large"), offered(aws, "m4.large")) == (set("abdef"), set("abcdef"))
    assert offered(aws, "g5.xlarge") == set("abdf")


def test_a_region_lacks_letters(aws: EmulatedAws) -> None:
    ec2 = aws.client("ec2", "us-west-1")
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert {zone["ZoneName"]: zone["ZoneId"] for zone in zones} == {"us-west-1a": "usw1-az3", "us-west-1c": "usw1-az1"}
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    with pytest.raises(ClientError, match=r"only be created in .*: us-west-1a, us-west-1c"):
        ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="us-west-1b")


@pytest.fixture(scope="module")
def subnets(aws: EmulatedAws) -> dict[str, str]:
    """A subnet in each zone, by letter."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return {
        letter: ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"us-east-1{letter}")[
            "Subnet"
        ]["SubnetId"]
        for n, letter in enumerate("abcdef")
    }


def test_subnets_have_the_ids_of_their_zones(aws: EmulatedAws, subnets: dict[str, str]) -> None:
    found = aws.client("ec2").describe_subnets(SubnetIds=[subnets["a"], subnets["c"]])["Subnets"]
    assert {subnet["AvailabilityZone"]: subnet["AvailabilityZoneId"] for subnet in found} == {
        "us-east-1a": "use1-az6",
        "us-east-1c": "use1-az3",
    }


def test_private_endpoints_are_not_in_every_zone(aws: EmulatedAws, subnets: dict[str, str]) -> None:
    ec2 = aws.client("ec2")
    name = "com.amazonaws.us-east-1.sagemaker.runtime"
    (found,) = ec2.describe_vpc_endpoint_services(ServiceNames=[name])["ServiceDetails"]
    assert found["ServiceType"] == [{"ServiceType": "Interface"}]
    assert found["AvailabilityZones"] == [f"us-east-1{letter}" for letter in "abcde"]
    vpc = ec2.describe_subnets(SubnetIds=[subnets["a"]])["Subnets"][0]["VpcId"]
    with pytest.raises(ClientError, match="does not support the availability zone of the subnet"):
        ec2.create_vpc_endpoint(
            VpcId=vpc, ServiceName=name, VpcEndpointType="Interface", SubnetIds=[subnets["a"], subnets["f"]]
        )


def test_eks_refuses_zones_and_keeps_to_those_of_creation(aws: EmulatedAws, role: str, subnets: dict[str, str]) -> None:
    eks = aws.client("eks")
    with pytest.raises(
        eks.exceptions.UnsupportedAvailabilityZoneException, match="control plane instances in us-east-1c"
    ):
        eks.create_cluster(name="zones", roleArn=role, resourcesVpcConfig={"subnetIds": [subnets["a"], subnets["c"]]})
    eks.create_cluster(name="zones", roleArn=role, resourcesVpcConfig={"subnetIds": [subnets["a"], subnets["b"]]})
    more = {"subnetIds": [subnets["a"], subnets["b"], subnets["d"]]}
    with pytest.raises(ClientError, match="exact set of AZs 'us-east-1a,us-east-1b' in which"):
        eks.update_cluster_config(name="zones", resourcesVpcConfig=more)
    eks.update_cluster_config(name="zones", resourcesVpcConfig={"subnetIds": [subnets["b"], subnets["a"]]})


@pytest.mark.parametrize("silent", [True, False])
def test_a_silent_administrator_has_an_entry_and_an_entry_exists_once(
    aws: EmulatedAws, role: str, silent: bool
) -> None:
    eks = aws.client("eks")
    name, caller = f"silent-{silent}".lower(), aws.client("sts").get_caller_identity()["Arn"]
    access = {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": silent}
    eks.create_cluster(name=name, roleArn=role, resourcesVpcConfig={"subnetIds": ["subnet-1"]}, accessConfig=access)
    assert eks.list_access_entries(clusterName=name)["accessEntries"] == ([caller] if silent else [])
    if not silent:
        eks.create_access_entry(clusterName=name, principalArn=caller)
    with pytest.raises(eks.exceptions.ResourceInUseException):
        eks.create_access_entry(clusterName=name, principalArn=caller)


def test_an_instance_keeps_what_it_was_told_and_is_connected_while_it_runs(aws: EmulatedAws) -> None:
    ec2, iam, ssm = aws.client("ec2"), aws.client("iam"), aws.client("ssm")
    image = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
    parameter = ssm.get_parameter(Name=image)["Parameter"]
    assert parameter["Name"] == image
    vpc = ec2.create_vpc(CidrBlock="10.97.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.97.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="bastion", Description="x", VpcId=vpc)["GroupId"]
    iam.create_instance_profile(InstanceProfileName="shims")
    (made,) = ec2.run_instances(
        ImageId=parameter["Value"], InstanceType="t4g.nano", MinCount=1, MaxCount=1,
        IamInstanceProfile={"Name": "shims"}, EbsOptimized=True,
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        NetworkInterfaces=[
            {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group], "AssociatePublicIpAddress": False}
        ],
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeSize": 9}}],
    )["Instances"]  # fmt: skip
    (found,) = ec2.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"][0]["Instances"]
    assert (found["SubnetId"], found["SecurityGroups"][0]["GroupId"]) == (subnet, group)
    assert "PublicIpAddress" not in found
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    (disk,) = ec2.describe_volumes(VolumeIds=[found["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"]
    assert (disk["Encrypted"], disk["Size"]) == (True, 9)

    def connected() -> list[str]:
        asked = [{"Key": "InstanceIds", "Values": [made["InstanceId"]]}]
        found = ssm.describe_instance_information(Filters=asked)["InstanceInformationList"]
        return [one["PingStatus"] for one in found]

    assert connected() == ["Online"]
    ec2.stop_instances(InstanceIds=[made["InstanceId"]])
    assert connected() == []
    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
