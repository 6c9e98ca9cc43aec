"""Each environment is applied for real to emulators, asked for through the AWS API, and destroyed.

Nothing here is read from Terraform's state but the outputs that people use too.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from cloud import wheels
from tests.emulated.inventory import take
from tests.emulated.plans import read_artefacts, unexplained, unused
from tests.emulated.support import ADMINISTRATOR, BROKEN, ENVIRONMENTS, FAULT, KEPT, Stories, Story

pytestmark = pytest.mark.timeout(1500)  # bootstrap and the applies count for the first test
environments = pytest.mark.parametrize("name", ENVIRONMENTS)
PURPOSES = ("artifacts", "dags", "data", "landing", "logs")
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}


@environments
def test_apply_and_plan_again(story: Story) -> None:
    """The second plan is empty, but for what is the emulators' doing."""
    left = unexplained(story.second_plan, read_artefacts())
    assert not left, "\n".join(map(str, left))


def test_every_artefact_is_still_one(stories: Stories) -> None:
    if set(stories.stories) != set(ENVIRONMENTS):
        pytest.skip("not every environment was selected")
    found = [difference for story in stories.all_applied() for difference in story.second_plan]
    assert unused(found, read_artefacts()) == []


@environments
def test_an_apply_that_fails_half_way_is_taken_up_again(story: Story) -> None:
    if story.name != BROKEN:
        assert story.broken is None
        return
    assert story.broken.returncode == 1
    said = " ".join(story.broken.stderr.split())
    assert FAULT["code"] in said
    assert "the same command goes on from there" in said
    # Whatever succeeded the first time was made once.
    calls = story.aws.calls("rds", "CreateDBInstance")
    assert sorted(call["status"] for call in calls if call["backend"] == "fault") == [400]
    vpcs = story.aws.client("ec2").describe_vpcs(Filters=[{"Name": "tag:Environment", "Values": [story.name]}])
    assert len(vpcs["Vpcs"]) == 1


@environments
def test_airflow(story: Story) -> None:
    found = story.aws.client("mwaa").get_environment(Name=story.prefix)["Environment"]
    assert found["AirflowVersion"] == "3.2.1"
    assert found["Status"] == "AVAILABLE"
    assert found["WebserverAccessMode"] == "PRIVATE_ONLY"
    assert found["KmsKey"] == _key(story)
    assert found["DagS3Path"].strip("/") == "dags"
    assert all(module["Enabled"] for module in found["LoggingConfiguration"].values())
    assert len(found["NetworkConfiguration"]["SubnetIds"]) == 2
    s3 = story.aws.client("s3")
    for path, version in (
        (found["RequirementsS3Path"], found["RequirementsS3ObjectVersion"]),
        (found["StartupScriptS3Path"], found["StartupScriptS3ObjectVersion"]),
    ):
        s3.head_object(Bucket=_bucket(story, "dags"), Key=path, VersionId=version)
    groups = _log_groups(story, f"airflow-{story.prefix}-")
    assert len(groups) == 5
    assert all(group.get("kmsKeyId") == _key(story) and group["retentionInDays"] for group in groups)


@environments
def test_cluster(story: Story) -> None:
    eks = story.aws.client("eks")
    cluster = eks.describe_cluster(name=story.prefix)["cluster"]
    assert cluster["status"] == "ACTIVE"
    assert cluster["accessConfig"]["authenticationMode"] == "API"
    assert cluster["encryptionConfig"][0]["provider"]["keyArn"] == _key(story)
    assert cluster["resourcesVpcConfig"]["endpointPublicAccess"] is False
    assert cluster["resourcesVpcConfig"]["endpointPrivateAccess"] is True
    groups = {
        name: eks.describe_nodegroup(clusterName=story.prefix, nodegroupName=name)["nodegroup"]
        for name in eks.list_nodegroups(clusterName=story.prefix)["nodegroups"]
    }
    gpu = {name: group for name, group in groups.items() if group["labels"].get("ml-platform/node-pool") == "gpu"}
    # A new account has no quota of GPUs, so dev does without.
    expected = set() if story.name == "dev" else {"SPOT", "ON_DEMAND"}
    assert {group["capacityType"] for group in gpu.values()} == expected
    for group in gpu.values():
        assert group["scalingConfig"]["minSize"] == 0
        assert group["scalingConfig"]["maxSize"] > 0
        assert group["taints"] == [GPU_TAINT]
        assert group["amiType"] == "BOTTLEROCKET_x86_64_NVIDIA"
        assert len(group["instanceTypes"]) > 1
    assert any(not group["taints"] and group["scalingConfig"]["minSize"] > 0 for group in groups.values())
    assert "eks-pod-identity-agent" in eks.list_addons(clusterName=story.prefix)["addons"]


@environments
def test_gpu_nodes_can_be_scaled_from_zero(story: Story) -> None:
    """The autoscaler reads what a node would be like from tags of the scaling group."""
    eks = story.aws.client("eks")
    autoscaling = story.aws.client("autoscaling")
    for name in eks.list_nodegroups(clusterName=story.prefix)["nodegroups"]:
        group = eks.describe_nodegroup(clusterName=story.prefix, nodegroupName=name)["nodegroup"]
        if GPU_TAINT not in group.get("taints", []):
            continue
        scaling_group = group["resources"]["autoScalingGroups"][0]["name"]
        filters = [{"Name": "auto-scaling-group", "Values": [scaling_group]}]
        tags = {tag["Key"]: tag["Value"] for tag in autoscaling.describe_tags(Filters=filters)["Tags"]}
        prefix = "k8s.io/cluster-autoscaler/node-template"
        assert tags[f"{prefix}/taint/nvidia.com/gpu"] == "true:NoSchedule"
        assert tags[f"{prefix}/label/ml-platform/node-pool"] == "gpu"


@environments
def test_nodes_have_encrypted_disks_and_guarded_metadata(story: Story) -> None:
    ec2 = story.aws.client("ec2")
    templates = [
        template
        for template in ec2.describe_launch_templates()["LaunchTemplates"]
        if template["LaunchTemplateName"].startswith(f"{story.prefix}-")
    ]
    assert len(templates) >= (2 if story.name == "dev" else 4), "dev has no GPU nodes"
    for template in templates:
        version = ec2.describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=["$Default"]
        )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        assert version["MetadataOptions"]["HttpTokens"] == "required"
        assert version["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        for mapping in version["BlockDeviceMappings"]:
            assert mapping["Ebs"]["Encrypted"] is True
            assert mapping["Ebs"]["KmsKeyId"] == _key(story)


@environments
def test_who_gets_into_the_cluster(story: Story) -> None:
    eks = story.aws.client("eks")
    role = story.aws.client("mwaa").get_environment(Name=story.prefix)["Environment"]["ExecutionRoleArn"]
    entry = eks.describe_access_entry(clusterName=story.prefix, principalArn=role)["accessEntry"]
    assert entry["kubernetesGroups"] == ["ml-platform:airflow"]
    # Whom prod names, else who applied; nobody besides.
    administrator = ADMINISTRATOR if story.name == "prod" else story.aws.client("sts").get_caller_identity()["Arn"]
    assert set(eks.list_access_entries(clusterName=story.prefix)["accessEntries"]) == {role, administrator}
    told = eks.list_associated_access_policies(clusterName=story.prefix, principalArn=administrator)
    (policy,) = told["associatedAccessPolicies"]
    assert policy["policyArn"].endswith("/AmazonEKSClusterAdminPolicy")
    assert policy["accessScope"]["type"] == "cluster"
    associations = eks.list_pod_identity_associations(clusterName=story.prefix)["associations"]
    accounts = {(a["namespace"], a["serviceAccount"]) for a in associations}
    assert {("ml-training", name) for name in ("validator", "preparer", "trainer", "evaluator")} <= accounts
    assert ("ml-deployment", "deployer") in accounts


@environments
@pytest.mark.parametrize("purpose", PURPOSES)
def test_bucket(story: Story, purpose: str) -> None:
    s3 = story.aws.client("s3")
    bucket = _bucket(story, purpose)
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    default = rules[0]["ApplyServerSideEncryptionByDefault"]
    if purpose == "logs":  # load balancers can write to SSE-S3 buckets only
        assert default["SSEAlgorithm"] == "AES256"
    else:
        assert (default["SSEAlgorithm"], default["KMSMasterKeyID"]) == ("aws:kms", _key(story))
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    assert any(
        statement["Effect"] == "Deny" and statement["Condition"].get("Bool", {}).get("aws:SecureTransport") == "false"
        for statement in policy["Statement"]
        if "Condition" in statement
    )


@environments
def test_landing_tells_the_queue(story: Story) -> None:
    """A dataset that lands is announced; this is the data plane, not the configuration."""
    s3, sqs = story.aws.client("s3"), story.aws.client("sqs")
    bucket = _bucket(story, "landing")
    (configured,) = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    url = sqs.get_queue_url(QueueName=configured["QueueArn"].rpartition(":")[2])["QueueUrl"]
    s3.put_object(Bucket=bucket, Key="flights/flights/2013-01.parquet", Body=b"PAR1")
    keys: list[str] = []
    deadline = time.monotonic() + 20
    while not keys and time.monotonic() < deadline:
        for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", []):
            body = json.loads(message["Body"])
            keys += [record["s3"]["object"]["key"] for record in body.get("Records", [])]
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert keys == ["flights/flights/2013-01.parquet"]


@environments
def test_database(story: Story) -> None:
    rds = story.aws.client("rds")
    (database,) = [
        found
        for found in rds.describe_db_instances()["DBInstances"]
        if found["DBInstanceIdentifier"].startswith(f"{story.prefix}-")
    ]
    assert database["Engine"] == "postgres"
    assert database["StorageEncrypted"] is True
    assert database["KmsKeyId"] == _key(story)
    assert database["PubliclyAccessible"] is False
    assert database["MultiAZ"] is (story.name == "prod")
    assert database["DeletionProtection"] is (story.name != "dev")
    assert database["BackupRetentionPeriod"] >= 1
    assert database["MasterUserSecret"]["KmsKeyId"]
    group = database["DBParameterGroups"][0]["DBParameterGroupName"]
    parameters = {
        parameter["ParameterName"]: parameter.get("ParameterValue")
        for page in rds.get_paginator("describe_db_parameters").paginate(DBParameterGroupName=group, Source="user")
        for parameter in page["Parameters"]
    }
    assert parameters["rds.force_ssl"] == "1"


@environments
def test_mlflow(story: Story) -> None:
    ecs, elb = story.aws.client("ecs"), story.aws.client("elbv2")
    cluster = f"{story.prefix}-mlflow"
    (service,) = ecs.describe_services(cluster=cluster, services=ecs.list_services(cluster=cluster)["serviceArns"])[
        "services"
    ]
    assert service["status"] == "ACTIVE"
    assert service["launchType"] == "FARGATE"
    assert service["deploymentConfiguration"]["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    assert service["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"
    definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    (container,) = [c for c in definition["containerDefinitions"] if c["essential"]]
    assert container["image"] == story.workspace.images["mlflow"]
    assert container["readonlyRootFilesystem"] is True
    assert container["user"] not in ("0", "root", "")
    environment = {entry["name"]: entry["value"] for entry in container["environment"]}
    assert not any("PASSWORD" in name for name in environment)
    (balancer,) = [b for b in elb.describe_load_balancers()["LoadBalancers"] if b["LoadBalancerName"] == cluster]
    assert balancer["Scheme"] == "internal"
    listeners = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    secure = "HTTP" if story.name == "dev" else "HTTPS"
    assert any(listener["Protocol"] == secure for listener in listeners)
    assert story.outputs["mlflow_tracking_uri"].startswith(f"{secure.lower()}://")


@environments
def test_endpoint_stands_and_says_that_it_has_no_model(story: Story) -> None:
    """The serving image really runs, without a model: it is healthy, and answers 503 to requests."""
    sagemaker = story.aws.client("sagemaker")
    name = f"{story.prefix}-flights"
    endpoint = sagemaker.describe_endpoint(EndpointName=name)
    assert endpoint["EndpointStatus"] == "InService", endpoint.get("FailureReason")
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    assert [variant["VariantName"] for variant in config["ProductionVariants"]] == ["primary"]
    assert config["KmsKeyId"] == _key(story)
    model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    assert model["PrimaryContainer"]["Image"] == story.workspace.images["serving"]
    assert "ModelDataUrl" not in model["PrimaryContainer"]
    with pytest.raises(ClientError) as refused:
        story.aws.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=name, ContentType="application/json", Body=b'{"instances": []}'
        )
    answer = refused.value.response
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["OriginalStatusCode"] == 503
    assert "no model deployed yet" in answer["OriginalMessage"]


@environments
def test_endpoint_has_the_alarms_that_a_deployment_is_rolled_back_by(story: Story) -> None:
    name = f"{story.prefix}-flights"
    alarms = [
        alarm
        for alarm in _alarms(story)
        if {"Name": "EndpointName", "Value": name} in alarm.get("Dimensions", [])
        or any(
            {"Name": "EndpointName", "Value": name}
            in query.get("MetricStat", {}).get("Metric", {}).get("Dimensions", [])
            for query in alarm.get("Metrics", [])
        )
    ]
    text = json.dumps(alarms, default=str)
    assert "5XX" in text
    assert "Latency" in text
    topics = _topics(story)
    assert all(set(alarm["AlarmActions"]) <= topics for alarm in alarms)


@environments
def test_endpoint_scaling(story: Story) -> None:
    client = story.aws.client("application-autoscaling")
    targets = client.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{story.prefix}-flights/variant/primary"]
    )["ScalableTargets"]
    most = {"dev": 1, "staging": 3, "prod": 6}[story.name]
    assert [target["MaxCapacity"] for target in targets] == ([most] if most > 1 else [])


@environments
def test_alarms_and_topics(story: Story) -> None:
    topics = _topics(story)
    sns = story.aws.client("sns")
    assert len(topics) >= 2
    for topic in topics:
        attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
        assert attributes["KmsMasterKeyId"]
        subscriptions = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        assert "team@example.com" in [subscription["Endpoint"] for subscription in subscriptions]
    alarms = _alarms(story)
    assert len(alarms) >= 10
    for alarm in alarms:
        assert "docs/runbooks/" in alarm["AlarmDescription"], alarm["AlarmName"]
        assert alarm["ActionsEnabled"], alarm["AlarmName"]
        # What rolls a deployment back is the deployer's to look at; people are told of the roll-back itself.
        assert alarm["AlarmActions"] or "-rollback-" in alarm["AlarmName"], alarm["AlarmName"]
    dashboards = story.aws.client("cloudwatch").list_dashboards()["DashboardEntries"]
    assert f"{story.prefix}-{story.aws.region}" in [dashboard["DashboardName"] for dashboard in dashboards]


@environments
def test_budget_and_nightly_shutdown(story: Story) -> None:
    budgets = story.aws.client("budgets").describe_budgets(AccountId=story.aws.account)["Budgets"]
    (budget,) = [found for found in budgets if found["BudgetName"].startswith(story.prefix)]
    assert float(budget["BudgetLimit"]["Amount"]) == {"dev": 900, "staging": 2000, "prod": 5000}[story.name]
    schedules = [
        found
        for found in story.aws.client("scheduler").list_schedules()["Schedules"]
        if found["Name"].startswith(story.prefix)
    ]
    stopped = {schedule["Target"]["Arn"].rpartition(":")[2] for schedule in schedules}
    expected = {"stopDBInstance", "startDBInstance", "registerScalableTarget", "updateService", "updateNodegroupConfig"}
    assert stopped == (expected if story.name == "dev" else set())


@environments
def test_network(story: Story) -> None:
    ec2 = story.aws.client("ec2")
    tagged = [{"Name": "tag:Environment", "Values": [story.name]}]
    (vpc,) = ec2.describe_vpcs(Filters=tagged)["Vpcs"]
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    zones = {
        "dev": ["use1-az1", "use1-az2"],
        "staging": ["use1-az1", "use1-az4"],  # az2 has no GPUs, and az3 no EKS
        "prod": ["use1-az1", "use1-az4", "use1-az6"],  # az5 has no private endpoints of SageMaker
    }
    subnets = sorted(ec2.describe_subnets(Filters=inside)["Subnets"], key=lambda one: IPv4Network(one["CidrBlock"]))
    assert [subnet["AvailabilityZoneId"] for subnet in subnets] == 2 * zones[story.name]
    gateways = ec2.describe_nat_gateways(Filters=inside)["NatGateways"]
    assert len([g for g in gateways if g["State"] == "available"]) == (3 if story.name == "prod" else 1)
    endpoints = [e for e in ec2.describe_vpc_endpoints()["VpcEndpoints"] if e["VpcId"] == vpc["VpcId"]]
    kinds = [endpoint["VpcEndpointType"] for endpoint in endpoints]
    assert kinds.count("Gateway") == 2
    assert kinds.count("Interface") == (11 if story.name == "prod" else 0)
    for group in ec2.describe_security_groups(Filters=inside)["SecurityGroups"]:
        for rule in group["IpPermissions"]:
            assert "0.0.0.0/0" not in [span["CidrIp"] for span in rule.get("IpRanges", [])], group["GroupName"]
    logs = [f for f in ec2.describe_flow_logs()["FlowLogs"] if f["ResourceId"] == vpc["VpcId"]]
    assert [log["TrafficType"] for log in logs] == ["ALL"]


@environments
def test_airflow_starts_from_the_wheels_of_its_requirements(story: Story) -> None:
    """MWAA installs the versions of the objects that it is told, whatever lies in the bucket."""
    s3, bucket = story.aws.client("s3"), _bucket(story, "dags")
    airflow = story.aws.client("mwaa").get_environment(Name=story.prefix)["Environment"]
    objects = {
        kind: s3.get_object(Bucket=bucket, Key=airflow[f"{kind}S3Path"], VersionId=airflow[f"{kind}S3ObjectVersion"])
        for kind in ("Plugins", "Requirements")
    }
    requirements = objects["Requirements"]["Body"].read()
    assert requirements == (story.workspace.folder / "dags" / "requirements.txt").read_bytes()
    assert b"--no-index" in requirements.splitlines()
    assert objects["Plugins"]["Metadata"] == {"requirements": hashlib.sha256(requirements).hexdigest()}
    assert objects["Plugins"]["Body"].read() == wheels.archive(story.workspace.folder).read_bytes()


@environments
def test_push_dags_makes_the_bucket_hold_the_bundle(story: Story) -> None:
    """Terraform's own objects stay, everything else of the bundle is there, nothing else is."""
    s3 = story.aws.client("s3")
    bucket = _bucket(story, "dags")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = {entry["Key"] for page in pages for entry in page.get("Contents", [])}
    folder = story.workspace.folder
    library = {f"dags/mlplatform/{path.name}" for path in (folder / "dags" / "mlplatform").glob("*.py")}
    configuration = {f"dags/config/{story.name}.yaml", "dags/config/base.yaml"}
    terraforms = {"dags/platform.json", "dags/kubeconfig", "dags/constraints.txt", "requirements/requirements.txt"}
    assert library | configuration | terraforms | {"dags/train_model.py", "startup/startup.sh"} <= keys
    assert not any("__pycache__" in key or "/kubernetes/" in key for key in keys)
    assert not any(key.startswith("dags/requirements") for key in keys)
    facts = json.loads(s3.get_object(Bucket=bucket, Key="dags/platform.json")["Body"].read())
    assert facts["environment"] == story.name
    assert facts["buckets"]["landing"] == _bucket(story, "landing")
    assert "up to date" in story.pushed_again


@environments
def test_pushed_bundle_is_readable_by_the_library(story: Story, tmp_path: Path) -> None:
    """The settings that the DAGs of this environment would read, from what is in the bucket."""
    from mlplatform.config.loading import load_settings

    s3 = story.aws.client("s3")
    bucket = _bucket(story, "dags")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="dags/"):
        for entry in page["Contents"]:
            target = tmp_path / entry["Key"].removeprefix("dags/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    settings = load_settings(tmp_path)
    assert settings.environment == story.name
    assert settings.kubernetes.context == story.prefix
    assert "clusters:" in (tmp_path / "kubeconfig").read_text()


@environments
def test_secrets_are_neither_in_state_nor_in_outputs(story: Story) -> None:
    s3 = story.aws.client("s3")
    bucket = f"ml-platform-terraform-state-{story.aws.account}-{story.aws.region}"
    state = s3.get_object(Bucket=bucket, Key=f"environments/{story.name}.tfstate")["Body"].read().decode()
    names = [s["Name"] for s in story.aws.client("secretsmanager").list_secrets()["SecretList"]]
    secrets = story.aws.client("secretsmanager")
    for name in names:
        value = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])
        assert value["password"] not in state


# --- Everything is destroyed from here on ---------------------------------------------------------


@environments
def test_a_deployment_is_the_deployers(destroyed: Story) -> None:
    """Terraform neither notices nor reverts it. (The destroy takes it away, see below.)"""
    assert destroyed.deployed["live"] == destroyed.deployed["new"] != destroyed.deployed["before"]
    left = unexplained(destroyed.plan_after_deployment, read_artefacts())
    assert not left, "\n".join(map(str, left))


@pytest.mark.parametrize("name", [KEPT])
def test_data_can_be_kept(destroyed: Story) -> None:
    kept = destroyed.kept
    assert kept is not None
    assert kept.done.returncode == 0, f"{kept.done.stdout[-2000:]}\n{kept.done.stderr[-4000:]}"
    assert kept.buckets == {_bucket(destroyed, purpose) for purpose in PURPOSES}
    assert "dags/train_model.py" in kept.bundle
    assert kept.snapshots == {f"{destroyed.prefix}-mlflow-final"}
    assert not kept.databases
    assert not kept.clusters
    # What the next apply, or the next destroy, takes them in again by.
    assert kept.files == {"kept_data.tf", "kept_data.auto.tfvars.json"}


@environments
def test_destroy_works_in_one_go(destroyed: Story) -> None:
    done = destroyed.destroyed
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_nothing_is_left_in_the_account(stories: Stories) -> None:
    """Asks every service for everything, and compares with what there was before."""
    for name in list(stories.stories):
        stories.destroyed(name)
    allowed = yaml.safe_load(Path(__file__).with_name("leftovers.yaml").read_text()) or []
    left = take(stories.aws) - stories.before
    unexpected = [item for item in left if not any(fnmatch.fnmatchcase(item, entry["pattern"]) for entry in allowed)]
    assert not unexpected, "\n".join(sorted(unexpected))
    idle = [e for e in allowed if not any(fnmatch.fnmatchcase(item, e["pattern"]) for item in left)]
    assert not idle, f"these are not left any more: {idle}"


# --- Short cuts -----------------------------------------------------------------------------------


def _bucket(story: Story, purpose: str) -> str:
    return f"{story.prefix}-{purpose}-{story.aws.account}-{story.aws.region}"


def _key(story: Story) -> str:
    """The environment's own key, by its alias."""
    kms = story.aws.client("kms")
    aliases = [a for page in kms.get_paginator("list_aliases").paginate() for a in page["Aliases"]]
    (key,) = {a["TargetKeyId"] for a in aliases if a["AliasName"].startswith(f"alias/{story.prefix}")}
    arn: str = kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"]
    return arn


def _topics(story: Story) -> set[str]:
    topics = story.aws.client("sns").list_topics()["Topics"]
    return {t["TopicArn"] for t in topics if t["TopicArn"].rpartition(":")[2].startswith(f"{story.prefix}-")}


def _alarms(story: Story) -> list[dict[str, Any]]:
    client = story.aws.client("cloudwatch")
    pages = client.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{story.prefix}-")
    return [alarm for page in pages for alarm in page["MetricAlarms"]]


def _log_groups(story: Story, prefix: str) -> list[dict[str, Any]]:
    client = story.aws.client("logs")
    pages = client.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
    return [group for page in pages for group in page["logGroups"]]
