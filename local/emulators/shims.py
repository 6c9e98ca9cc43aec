"""Operations that ministack lacks or only half remembers, completed here. The list with reasons is in README.md.

Most shims are a memory: the backend answers, and what it was told and left out of its answer is put back. Nothing here
makes a call succeed that AWS would refuse.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlencode
from xml.etree import ElementTree

from botocore.model import StructureShape
from multidict import CIMultiDict

from local.aws.sagemaker.errors import AwsError
from local.aws.sagemaker.validation import validate
from local.emulators.airflow_page import AirflowPage, host_of
from local.emulators.calls import Call, Request, models
from local.emulators.quotas import Quotas, Refused, vcpus
from local.emulators.responses import Response, error, json_response
from local.emulators.zones import WITHOUT_CONTROL_PLANES, described, endpoint_services, offers, takes_endpoints, zones

Ask = Callable[[Call, Request], Awaitable[Response]]
Shim = Callable[["Shims", Call, Request], Awaitable[Response]]
Document = dict[str, Any]

_SHIMS: dict[tuple[str, str], Shim] = {}
_CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nemulated\n-----END CERTIFICATE-----\n").decode()


def _shim(service: str, *actions: str) -> Callable[[Shim], Shim]:
    def register(shim: Shim) -> Shim:
        _SHIMS.update({(service, action): shim for action in actions})
        return shim

    return register


class Shims:
    """Answers the calls that need a shim, with the help of the backend."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self._memory: dict[tuple[str, str], Document] = {}

    def find(self, call: Call) -> Callable[[Call, Request], Awaitable[Response]] | None:
        """Return the shim of a call."""
        shim = _SHIMS.get((call.service, call.action))
        return (lambda call, request: shim(self, call, request)) if shim else None

    def memory(self, kind: str, name: str) -> Document:
        """Return what is remembered of a thing; empty at first."""
        return self._memory.setdefault((kind, name), {})

    def airflow_page(self, name: str) -> AirflowPage | None:
        """Return the page of an Airflow environment; None where there is no such environment."""
        if not self._memory.get(("environment", name)):
            return None
        page: AirflowPage = self.memory("airflow-page", name).setdefault("page", AirflowPage())
        return page

    def forget(self, kind: str, name: str) -> None:
        """Forget a thing that was deleted."""
        self._memory.pop((kind, name), None)


def shimmed() -> list[tuple[str, str]]:
    """Return (service, operation) of everything that is shimmed; the README lists the same."""
    return sorted(_SHIMS)


# --- MWAA -----------------------------------------------------------------------------------------

_LOG_GROUPS = {
    "DagProcessingLogs": "DAGProcessing",
    "SchedulerLogs": "Scheduler",
    "TaskLogs": "Task",
    "WebserverLogs": "WebServer",
    "WorkerLogs": "Worker",
}
_MWAA_FORGOTTEN = (
    *("KmsKey", "WeeklyMaintenanceWindowStart", "EndpointManagement", "PluginsS3Path", "PluginsS3ObjectVersion"),
    *("RequirementsS3Path", "RequirementsS3ObjectVersion", "StartupScriptS3Path", "StartupScriptS3ObjectVersion"),
    *("MinWebservers", "MaxWebservers", "AirflowVersion", "WebserverAccessMode"),
)


@_shim("airflow", "CreateEnvironment", "UpdateEnvironment")
async def _put_environment(shims: Shims, call: Call, request: Request) -> Response:
    name = _last(request.path)
    body = _body(request)
    if refusal := _refusal(call, {**body, "Name": name}):
        return refusal
    answer = await shims.ask(call, request)
    if answer.status == 200:
        memory = shims.memory("environment", name)
        memory |= {key: body[key] for key in _MWAA_FORGOTTEN if key in body}
        memory.setdefault("WeeklyMaintenanceWindowStart", "SUN:03:30")  # AWS chooses one
        memory.setdefault("EndpointManagement", "SERVICE")
        memory.setdefault("WebserverAccessMode", "PRIVATE_ONLY")
    return answer


@_shim("airflow", "GetEnvironment")
async def _get_environment(shims: Shims, call: Call, request: Request) -> Response:
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    document = json.loads(answer.body)
    environment = document["Environment"]
    environment |= shims.memory("environment", environment["Name"])
    environment["WebserverUrl"] = host_of(environment["Name"], call.region)
    for kind, module in environment.get("LoggingConfiguration", {}).items():
        region_and_account = ":".join(environment["Arn"].split(":")[3:5])
        group = f"airflow-{environment['Name']}-{_LOG_GROUPS[kind]}"
        module["CloudWatchLogGroupArn"] = f"arn:aws:logs:{region_and_account}:log-group:{group}"
    return _with_json(answer, document)


@_shim("airflow", "DeleteEnvironment")
async def _delete_environment(shims: Shims, call: Call, request: Request) -> Response:
    answer = await shims.ask(call, request)
    if answer.status == 200:
        shims.forget("environment", _last(request.path))
        shims.forget("airflow-page", _last(request.path))
    return answer


@_shim("airflow", "InvokeRestApi")
async def _invoke_rest_api(shims: Shims, call: Call, request: Request) -> Response:
    name, body = _last(request.path), _body(request)
    if refusal := _refusal(call, {**body, "Name": name}):
        return refusal
    if (page := shims.airflow_page(name)) is None:
        return _no_environment(call, name)
    if shims.memory("environment", name)["WebserverAccessMode"] == "PRIVATE_ONLY":
        # Whoever calls does so from outside of the VPC: nothing runs in it.
        message = "Private webserver environments can only call InvokeRestApi within a VPC"
        return error(call.protocol, call.service, "AccessDeniedException", message, 403)
    status, answer = page.api.answer(body["Method"], body["Path"], body.get("QueryParameters"), body.get("Body"))
    document = {"RestApiStatusCode": status, "RestApiResponse": answer}
    if status < 400:
        return json_response(200, document)
    refused = error(call.protocol, call.service, "RestApiClientException", "Airflow refused", 400)
    return _with_json(refused, document)


@_shim("airflow", "CreateWebLoginToken")
async def _create_web_login_token(shims: Shims, call: Call, request: Request) -> Response:
    name = _last(request.path)
    if (page := shims.airflow_page(name)) is None:
        return _no_environment(call, name)
    token = uuid.uuid4().hex
    page.expect(token)
    document = {"WebToken": token, "WebServerHostname": host_of(name, call.region), "IamIdentity": "user/emulated"}
    return json_response(200, document)


def _no_environment(call: Call, name: str) -> Response:
    return error(call.protocol, call.service, "ResourceNotFoundException", f"no environment {name}", 404)


# --- EKS ------------------------------------------------------------------------------------------

_CLUSTER_FORGOTTEN = ("upgradePolicy", "zonalShiftConfig", "computeConfig", "storageConfig", "deletionProtection")
_NODEGROUP_FORGOTTEN = ("launchTemplate", "updateConfig", "nodeRepairConfig")
_NODEGROUP_PATH = re.compile(r"^/clusters/(?P<cluster>[^/]+)/node-groups/(?P<nodegroup>[^/]+)")


@_shim("eks", "CreateCluster")
async def _create_cluster(shims: Shims, call: Call, request: Request) -> Response:
    body = _body(request)
    if refusal := _refusal(call, body):
        return refusal
    places = await _zones_of(shims, call, request, body["resourcesVpcConfig"].get("subnetIds", []))
    ids = zones(call.region)
    if refused := sorted(zone for zone in set(places.values()) if ids[zone] in WITHOUT_CONTROL_PLANES):
        good = ", ".join(zone for zone in ids if ids[zone] not in WITHOUT_CONTROL_PLANES)
        message = (
            f"Cannot create cluster '{body['name']}' because EKS does not support creating control plane instances in "
            f"{', '.join(refused)}, the targeted availability zone. Retry cluster creation using control plane subnets "
            f"that span at least two of these availability zones: {good}."
        )
        return error(call.protocol, call.service, "UnsupportedAvailabilityZoneException", message, 400)
    answer = await shims.ask(call, request)
    if answer.status == 200:
        memory = shims.memory("cluster", body["name"])
        memory |= {"upgradePolicy": {"supportType": "EXTENDED"}}
        memory |= {key: body[key] for key in _CLUSTER_FORGOTTEN if key in body}
    return _with_clusters(shims, answer)


@_shim("eks", "DescribeCluster", "DeleteCluster")
async def _describe_cluster(shims: Shims, call: Call, request: Request) -> Response:
    answer = _with_clusters(shims, await shims.ask(call, request))
    if call.action == "DeleteCluster" and answer.status == 200:
        shims.forget("cluster", _last(request.path))
    return answer


@_shim("eks", "UpdateClusterConfig")
async def _update_cluster(shims: Shims, call: Call, request: Request) -> Response:
    name = request.path.split("/")[2]
    found = await _describe(shims, call, f"/clusters/{name}", request, "DescribeCluster")
    if found.status != 200:
        return found
    body = _body(request)
    known = json.loads(found.body)["cluster"]
    memory = shims.memory("cluster", name)
    if subnets := body.get("resourcesVpcConfig", {}).get("subnetIds"):
        before = known["resourcesVpcConfig"]["subnetIds"]
        places = await _zones_of(shims, call, request, [*before, *subnets])
        old, new = ({places[one] for one in some if one in places} for some in (before, subnets))
        if old != new:
            message = (
                f"Provided subnets {','.join(subnets)} belong to the AZs '{','.join(sorted(new))}'. But they should "
                f"belong to the exact set of AZs '{','.join(sorted(old))}' in which subnets were provided during "
                "cluster creation."
            )
            return error(call.protocol, call.service, "InvalidParameterException", message, 400)
    for key, value in body.items():
        if key != "clientRequestToken":
            merged = {**known.get(key, {}), **memory.get(key, {})}
            memory[key] = merged | value if isinstance(value, dict) else value
    return _update(shims, "ConfigUpdate")


@_shim("eks", "CreateNodegroup")
async def _create_nodegroup(shims: Shims, call: Call, request: Request) -> Response:
    cluster = request.path.split("/")[2]
    body = _body(request)
    if refusal := _refusal(call, {**body, "clusterName": cluster}):
        return refusal
    if "diskSize" in body and "launchTemplate" in body:
        message = "Disk size must be specified within the launch template."
        return error(call.protocol, call.service, "InvalidParameterException", message, 400)
    answer = await shims.ask(call, request)
    if answer.status == 200:
        memory = shims.memory("nodegroup", f"{cluster}/{body['nodegroupName']}")
        memory |= {"updateConfig": {"maxUnavailable": 1}, "releaseVersion": f"{body.get('version', '1')}-20260101"}
        memory |= {key: body[key] for key in _NODEGROUP_FORGOTTEN if key in body}
        if "launchTemplate" in body:
            memory["diskSize"] = None  # the template's business
    return _with_nodegroup(shims, answer)


@_shim("eks", "DescribeNodegroup", "DeleteNodegroup")
async def _describe_nodegroup(shims: Shims, call: Call, request: Request) -> Response:
    answer = _with_nodegroup(shims, await shims.ask(call, request))
    if call.action == "DeleteNodegroup" and answer.status == 200 and (match := _NODEGROUP_PATH.match(request.path)):
        shims.forget("nodegroup", f"{match['cluster']}/{match['nodegroup']}")
    return answer


@_shim("eks", "UpdateNodegroupConfig", "UpdateNodegroupVersion")
async def _update_nodegroup(shims: Shims, call: Call, request: Request) -> Response:
    match = _NODEGROUP_PATH.match(request.path)
    assert match is not None
    found = await _describe(shims, call, match.group(), request, "DescribeNodegroup")
    if found.status != 200:
        return found
    known = json.loads(_with_nodegroup(shims, found).body)["nodegroup"]
    memory = shims.memory("nodegroup", f"{match['cluster']}/{match['nodegroup']}")
    body = _body(request)
    if labels := body.get("labels"):
        kept = {**known.get("labels", {}), **labels.get("addOrUpdateLabels", {})}
        memory["labels"] = {key: value for key, value in kept.items() if key not in labels.get("removeLabels", [])}
    if taints := body.get("taints"):
        gone = [taint["key"] for taint in (*taints.get("removeTaints", []), *taints.get("addOrUpdateTaints", []))]
        kept_taints = [taint for taint in known.get("taints", []) if taint["key"] not in gone]
        memory["taints"] = [*kept_taints, *taints.get("addOrUpdateTaints", [])]
    for key in ("scalingConfig", "updateConfig", "nodeRepairConfig", "launchTemplate"):
        if key in body:
            memory[key] = {**(known.get(key) or {}), **body[key]}
    for key in ("version", "releaseVersion"):
        if key in body:
            memory[key] = body[key]
    return _update(shims, call.action.removeprefix("UpdateNodegroup") + "Update")


@_shim("eks", "DescribeUpdate")
async def _describe_update(shims: Shims, call: Call, request: Request) -> Response:
    known = shims.memory("updates", "eks").get(_last(request.path))
    return json_response(200, {"update": known}) if known else await shims.ask(call, request)


def _update(shims: Shims, kind: str) -> Response:
    identifier = str(uuid.uuid4())
    update = {"id": identifier, "status": "Successful", "type": kind, "params": [], "errors": []}
    shims.memory("updates", "eks")[identifier] = update
    return json_response(200, {"update": update})


def _with_clusters(shims: Shims, answer: Response) -> Response:
    if answer.status != 200:
        return answer
    document = json.loads(answer.body)
    cluster = document["cluster"]
    cluster |= shims.memory("cluster", cluster["name"])
    cluster["certificateAuthority"] = {"data": cluster.get("certificateAuthority", {}).get("data") or _CERTIFICATE}
    return _with_json(answer, document)


def _with_nodegroup(shims: Shims, answer: Response) -> Response:
    if answer.status != 200:
        return answer
    document = json.loads(answer.body)
    nodegroup = document["nodegroup"]
    nodegroup |= shims.memory("nodegroup", f"{nodegroup['clusterName']}/{nodegroup['nodegroupName']}")
    return _with_json(answer, {"nodegroup": {key: value for key, value in nodegroup.items() if value is not None}})


async def _describe(shims: Shims, call: Call, path: str, request: Request, action: str) -> Response:
    asked = replace(request, method="GET", path=path, query="", body=b"")
    return await shims.ask(replace(call, action=action), asked)


# --- ECR ------------------------------------------------------------------------------------------

_SCANNED = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)


@_shim("ecr", "DescribeImageScanFindings")
async def _describe_scan(shims: Shims, call: Call, request: Request) -> Response:
    body = _body(request)
    if refusal := _refusal(call, body):
        return refusal
    target = request.headers["X-Amz-Target"].replace(call.action, "DescribeImages")
    asked = {"repositoryName": body["repositoryName"], "imageIds": [body["imageId"]]}
    headers = CIMultiDict(request.headers)
    headers["X-Amz-Target"] = target
    answer = await shims.ask(
        replace(call, action="DescribeImages"), replace(request, headers=headers, body=json.dumps(asked).encode())
    )
    if answer.status != 200:
        return answer
    found = json.loads(answer.body)["imageDetails"]
    if not found:
        return error(call.protocol, call.service, "ImageNotFoundException", "The image does not exist", 400)
    document = {key: found[0][key] for key in ("registryId", "repositoryName")} | {"imageId": body["imageId"]}
    media_type = found[0]["imageManifestMediaType"]
    if media_type not in _SCANNED:
        message = f"An artifact with media type '{media_type}' cannot be scanned."
        status = {"status": "UNSUPPORTED_IMAGE", "description": message}
        return _with_json(answer, {**document, "imageScanStatus": status})
    content: Document = {"findings": [], "findingSeverityCounts": {}}
    return _with_json(answer, {**document, "imageScanStatus": {"status": "COMPLETE"}, "imageScanFindings": content})


# --- ECS ------------------------------------------------------------------------------------------


@_shim("ecs", "CreateService", "UpdateService", "DescribeServices")
async def _services(shims: Shims, call: Call, request: Request) -> Response:
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    document = json.loads(answer.body)
    found = document.get("services", [])
    if "service" in document:
        found = [document["service"]]
        body = _body(request)
        if "availabilityZoneRebalancing" in body:
            shims.memory("service", found[0]["serviceArn"])["availabilityZoneRebalancing"] = body[
                "availabilityZoneRebalancing"
            ]
    for service in found:
        service["availabilityZoneRebalancing"] = "DISABLED"
        service |= shims.memory("service", service["serviceArn"])
    return _with_json(answer, document)


@_shim("ecs", "DeleteService", "DeleteTaskDefinitions")
async def _delete_tags(shims: Shims, call: Call, request: Request) -> Response:
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    document = json.loads(answer.body)
    if call.action == "DeleteService":
        arns = [document["service"]["serviceArn"]]
    else:
        arns = [definition["taskDefinitionArn"] for definition in document.get("taskDefinitions", [])]
    # What is deleted has no tags; left, the tagging API would list it for ever.
    for arn in arns:
        found = await _json_call(shims, request, call.region, "ecs", "ListTagsForResource", {"resourceArn": arn})
        if keys := [tag["key"] for tag in found.get("tags", [])]:
            body = {"resourceArn": arn, "tagKeys": keys}
            await _json_call(shims, request, call.region, "ecs", "UntagResource", body)
        shims.forget("service", arn)
    return answer


# --- RDS ------------------------------------------------------------------------------------------

_DATABASE_FORGOTTEN = ("PreferredBackupWindow", "PerformanceInsightsKMSKeyId")


@_shim(
    "rds",
    *("CreateDBInstance", "RestoreDBInstanceFromDBSnapshot", "ModifyDBInstance", "DescribeDBInstances"),
    *("DeleteDBInstance", "StartDBInstance", "StopDBInstance", "RebootDBInstance"),
)
async def _databases(shims: Shims, call: Call, request: Request) -> Response:
    form = call.parameters
    name = form.get("DBInstanceIdentifier", "")
    managed = form.get("ManageMasterUserPassword") == "true"
    if managed and "MasterUserPassword" in form:
        message = "You can't specify MasterUserPassword when ManageMasterUserPassword is enabled."
        return error(call.protocol, call.service, "InvalidParameterCombination", message, 400)
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    root = _xml(answer)
    databases = list(_elements(root, "DBInstance"))
    if call.action.startswith(("Create", "Restore", "Modify")):
        memory = shims.memory("database", name)
        memory |= {key: form[key] for key in _DATABASE_FORGOTTEN if form.get(key)}
        if exports := _exports(form, memory.get("EnabledCloudwatchLogsExports", [])):
            memory["EnabledCloudwatchLogsExports"] = exports
        if managed and "MasterUserSecret" not in memory:
            key = form.get("MasterUserSecretKmsKeyId", "alias/aws/secretsmanager")
            memory["MasterUserSecret"] = {
                "SecretArn": await _create_secret(shims, request, call.region, name, key),
                "SecretStatus": "active",
                "KmsKeyId": key,
            }
    for database in databases:
        identifier = _text(database, "DBInstanceIdentifier")
        # Describe also takes the resource's id, so the name is read from the answer.
        for key, value in shims.memory("database", identifier).items():
            _put(database, key, value)
    if call.action == "DeleteDBInstance":
        for database in databases:
            identifier = _text(database, "DBInstanceIdentifier")
            if secret := shims.memory("database", identifier).get("MasterUserSecret"):
                body = {"SecretId": secret["SecretArn"], "ForceDeleteWithoutRecovery": True}
                await _json_call(shims, request, call.region, "secretsmanager", "DeleteSecret", body)
            shims.forget("database", identifier)
    return _with_xml(answer, root)


def _exports(form: Any, known: list[str]) -> list[str]:
    """Return the log exports after a call: creation lists all, modification adds and removes."""
    created = _members(form, "EnableCloudwatchLogsExports.member.")
    added = _members(form, "CloudwatchLogsExportConfiguration.EnableLogTypes.member.")
    removed = _members(form, "CloudwatchLogsExportConfiguration.DisableLogTypes.member.")
    return [kind for kind in dict.fromkeys([*known, *created, *added]) if kind not in removed]


async def _create_secret(shims: Shims, request: Request, region: str, database: str, key: str) -> str:
    body = {
        "Name": f"rds!db-{uuid.uuid4()}",
        "KmsKeyId": key,
        "SecretString": json.dumps({"username": request.form.get("MasterUsername", ""), "password": uuid.uuid4().hex}),
        "Tags": [{"Key": "aws:rds:primaryDBInstanceArn", "Value": database}],
        "ClientRequestToken": str(uuid.uuid4()),
    }
    arn: str = (await _json_call(shims, request, region, "secretsmanager", "CreateSecret", body))["ARN"]
    return arn


# --- EC2 ------------------------------------------------------------------------------------------


@_shim("ec2", "CreateFlowLogs")
async def _create_flow_logs(shims: Shims, call: Call, request: Request) -> Response:
    form = call.parameters
    # ministack looks for tags of another name of the resource.
    forwarded = {key: "flow-log" if value == "vpc-flow-log" else value for key, value in form.items()}
    answer = await shims.ask(call, replace(request, body=urlencode(forwarded).encode()))
    if answer.status == 200:
        for item in _elements(_xml(answer), "flowLogIdSet"):
            for identifier in item:
                shims.memory("flow log", identifier.text or "").update(
                    deliverLogsPermissionArn=form.get("DeliverLogsPermissionArn"),
                    maxAggregationInterval=form.get("MaxAggregationInterval", "600"),
                    logFormat=form.get("LogFormat", _FLOW_LOG_FORMAT),
                )
    return answer


_FLOW_LOG_FORMAT = (
    "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} ${packets} "
    "${bytes} ${start} ${end} ${action} ${log-status}"
)


@_shim("ec2", "CreateVpcEndpoint", "ModifyVpcEndpoint")
async def _put_vpc_endpoint(shims: Shims, call: Call, request: Request) -> Response:
    form = call.parameters
    service = form.get("ServiceName", "")
    short = service.removeprefix(f"com.amazonaws.{call.region}.")
    for subnet, zone in (await _zones_of(shims, call, request, _members(form, "SubnetId."))).items():
        if not takes_endpoints(zones(call.region)[zone], short):
            message = (
                f"The VPC endpoint service {service} does not support the availability zone of the subnet: {subnet}."
            )
            return error(call.protocol, call.service, "InvalidParameter", message, 400)
    answer = await shims.ask(call, request)
    if call.action == "ModifyVpcEndpoint" and answer.status in (400, 404) and b"InvalidAction" in answer.body:
        answer = Response(
            200,
            {"Content-Type": "text/xml"},
            b"<ModifyVpcEndpointResponse><return>true</return></ModifyVpcEndpointResponse>",
        )
    if answer.status != 200:
        return answer
    root = _xml(answer)
    identifier = form.get("VpcEndpointId") or next(_elements(root, "vpcEndpointId")).text or ""
    memory = shims.memory("vpc endpoint", identifier)
    for key, name in (("PolicyDocument", "policyDocument"), ("PrivateDnsEnabled", "privateDnsEnabled")):
        if form.get(key):
            memory[name] = form[key]
    groups = _members(form, "SecurityGroupId.") + _members(form, "AddSecurityGroupId.")
    removed = _members(form, "RemoveSecurityGroupId.")
    known = [group["groupId"] for group in memory.get("groupSet", [])]
    if groups or removed:
        memory["groupSet"] = [
            {"groupId": group, "groupName": group} for group in dict.fromkeys([*known, *groups]) if group not in removed
        ]
    _complete_ec2(shims, root)
    return _with_xml(answer, root)


@_shim("ec2", "CreateLaunchTemplate", "CreateLaunchTemplateVersion")
async def _put_launch_template(shims: Shims, call: Call, request: Request) -> Response:
    answer = await shims.ask(call, request)
    if answer.status == 200:
        root = _xml(answer)
        identifier = next(_elements(root, "launchTemplateId")).text
        version = next((element.text for element in _elements(root, "versionNumber")), "1")
        prefix = "LaunchTemplateData."
        data = {key.removeprefix(prefix): value for key, value in call.parameters.items() if key.startswith(prefix)}
        shims.memory("launch template", f"{identifier}/{version}").update(data)
    return answer


@_shim("ec2", "DescribeFlowLogs", "DescribeVpcEndpoints", "DescribeLaunchTemplateVersions")
async def _describe_ec2(shims: Shims, call: Call, request: Request) -> Response:
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    root = _xml(answer)
    _complete_ec2(shims, root)
    return _with_xml(answer, root)


def _complete_ec2(shims: Shims, root: ElementTree.Element) -> None:
    for item in (*_elements(root, "item"), *_elements(root, "vpcEndpoint")):
        for kind, key in (("flow log", "flowLogId"), ("vpc endpoint", "vpcEndpointId")):
            if identifier := _text(item, key):
                for name, value in shims.memory(kind, identifier).items():
                    if value is not None:
                        _put(item, name, value)
        if template := _text(item, "launchTemplateId"):
            _complete_launch_template(
                item, shims.memory("launch template", f"{template}/{_text(item, 'versionNumber')}")
            )


def _complete_launch_template(item: ElementTree.Element, data: Document) -> None:
    for mappings in _elements(item, "blockDeviceMappingSet"):
        for position, mapping in enumerate(mappings, start=1):
            if key := data.get(f"BlockDeviceMapping.{position}.Ebs.KmsKeyId"):
                _put(next(_elements(mapping, "ebs")), "kmsKeyId", key)
    for interfaces in _elements(item, "networkInterfaceSet"):
        for position, interface in enumerate(interfaces, start=1):
            prefix = f"NetworkInterface.{position}."
            if deleted := data.get(f"{prefix}DeleteOnTermination"):
                _put(interface, "deleteOnTermination", deleted)
            if groups := _members(data, f"{prefix}SecurityGroupId."):
                _put(interface, "groupSet", {})
                for group in groups:
                    _add(next(_elements(interface, "groupSet")), "groupId", group)


@_shim("ec2", "RunInstances")
async def _run_instances(shims: Shims, call: Call, request: Request) -> Response:
    form = dict(call.parameters)
    # ministack knows a subnet and groups of an instance, not of its interface.
    interface = "NetworkInterface.1."
    if subnet := form.get(f"{interface}SubnetId"):
        form["SubnetId"] = subnet
    for position, group in enumerate(_members(form, f"{interface}SecurityGroupId."), start=1):
        form[f"SecurityGroupId.{position}"] = group
    answer = await shims.ask(call, replace(request, body=urlencode(form).encode()))
    if answer.status != 200:
        return answer
    root = _xml(answer)
    for instances in _elements(root, "instancesSet"):
        for instance in instances:
            shims.memory("instance", _text(instance, "instanceId")).update(form)
            for volume in _elements(instance, "volumeId"):
                shims.memory("volume", volume.text or "").update(form)
    _complete_instances(shims, root)
    return _with_xml(answer, root)


@_shim("ec2", "DescribeInstances", "DescribeVolumes")
async def _describe_instances(shims: Shims, call: Call, request: Request) -> Response:
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    root = _xml(answer)
    _complete_instances(shims, root)
    return _with_xml(answer, root)


def _complete_instances(shims: Shims, root: ElementTree.Element) -> None:
    for item in _elements(root, "item"):
        if asked := shims.memory("instance", _text(item, "instanceId")):
            if asked.get("NetworkInterface.1.AssociatePublicIpAddress") == "false":
                for address in [child for child in item if child.tag.rpartition("}")[2] in ("dnsName", "ipAddress")]:
                    item.remove(address)
            _put(item, "ebsOptimized", asked.get("EbsOptimized", "false"))
            options = {
                "state": "applied",
                "httpEndpoint": asked.get("MetadataOptions.HttpEndpoint", "enabled"),
                "httpTokens": asked.get("MetadataOptions.HttpTokens", "optional"),
                "httpPutResponseHopLimit": asked.get("MetadataOptions.HttpPutResponseHopLimit", "1"),
                "httpProtocolIpv6": asked.get("MetadataOptions.HttpProtocolIpv6", "disabled"),
                "instanceMetadataTags": asked.get("MetadataOptions.InstanceMetadataTags", "disabled"),
            }
            _put(item, "metadataOptions", options)
        if (identifier := _text(item, "volumeId")) and _text(item, "size"):
            disk = shims.memory("volume", identifier)
            for name, key in (("encrypted", "Encrypted"), ("size", "VolumeSize"), ("volumeType", "VolumeType")):
                if value := disk.get(f"BlockDeviceMapping.1.Ebs.{key}"):
                    _put(item, name, value)


@_shim("ec2", "DescribeInstanceTypes")
async def _describe_instance_types(shims: Shims, call: Call, request: Request) -> Response:
    if refusal := _unknown_types(call, _members(call.parameters, "InstanceType.")):
        return refusal
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    root = _xml(answer)
    for item in _elements(root, "item"):
        if count := vcpus(_text(item, "instanceType")):
            _put(next(_elements(item, "vCpuInfo")), "defaultVCpus", count)
    return _with_xml(answer, root)


@_shim("ec2", "DescribeInstanceTypeOfferings")
async def _describe_offerings(shims: Shims, call: Call, request: Request) -> Response:
    filters = _filters(call)
    where = {"availability-zone": 0, "availability-zone-id": 1}.get(call.parameters.get("LocationType", ""))
    if where is None or set(filters) != {"instance-type"}:
        message = "Emulated are zones as the location, and instance-type as the only filter."
        return error(call.protocol, call.service, "InvalidParameterValue", message, 400)
    found = [
        {"instanceType": kind, "locationType": call.parameters["LocationType"], "location": zone[where]}
        for kind in filters["instance-type"]
        if vcpus(kind)
        for zone in zones(call.region).items()
        if offers(zone[1], kind)
    ]
    return _ec2_answer(call, instanceTypeOfferingSet=found)


@_shim("ec2", "DescribeAvailabilityZones")
async def _describe_zones(shims: Shims, call: Call, request: Request) -> Response:
    try:
        return _ec2_answer(call, availabilityZoneInfo=described(call.region, _filters(call)))
    except KeyError as unknown:
        message = f"The filter {unknown} is invalid"
        return error(call.protocol, call.service, "InvalidParameterValue", message, 400)


@_shim("ec2", "DescribeVpcEndpointServices")
async def _describe_endpoint_services(shims: Shims, call: Call, request: Request) -> Response:
    names = _members(call.parameters, "ServiceName.") or _filters(call).get("service-name", [])
    return _ec2_answer(call, serviceNameSet=names, serviceDetailSet=endpoint_services(call.region, names))


@_shim("ec2", "CreateSubnet", "DescribeSubnets")
async def _subnets(shims: Shims, call: Call, request: Request) -> Response:
    known = zones(call.region)
    wanted = call.parameters.get("AvailabilityZone", next(iter(known)))
    if call.action == "CreateSubnet" and wanted not in known:
        message = (
            f"Value ({wanted}) for parameter availabilityZone is invalid. Subnets can currently only be created in the "
            f"following availability zones: {', '.join(known)}."
        )
        return error(call.protocol, call.service, "InvalidParameterValue", message, 400)
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    root = _xml(answer)
    for subnet in (*_elements(root, "subnet"), *_elements(root, "item")):
        if zone := _text(subnet, "availabilityZone"):
            _put(subnet, "availabilityZoneId", known[zone])
    return _with_xml(answer, root)


async def _zones_of(shims: Shims, call: Call, request: Request, subnets: list[str]) -> dict[str, str]:
    """Return the zones of those subnets that exist."""
    answer = await _query_call(shims, request, call.region, "ec2", "DescribeSubnets", "2016-11-15")
    found = {_text(item, "subnetId"): _text(item, "availabilityZone") for item in _elements(_xml(answer), "item")}
    return {subnet: found[subnet] for subnet in subnets if subnet in found}


def _filters(call: Call) -> dict[str, list[str]]:
    names = {key: value for key, value in call.parameters.items() if re.match(r"Filter\.\d+\.Name$", key)}
    return {value: _members(call.parameters, key.replace("Name", "Value.")) for key, value in names.items()}


def _ec2_answer(call: Call, **content: Any) -> Response:
    root = ElementTree.Element(f"{call.action}Response")
    for name, value in content.items():
        _add(root, name, value)
    return Response(200, {"Content-Type": "text/xml"}, ElementTree.tostring(root, encoding="utf-8"))


def _unknown_types(call: Call, types: list[str]) -> Response | None:
    if unknown := [kind for kind in types if vcpus(kind) is None]:
        message = f"The following supplied instance types do not exist: [{', '.join(unknown)}]"
        return error(call.protocol, call.service, "InvalidInstanceType", message, 400)
    return None


# --- Systems Manager ------------------------------------------------------------------------------

_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"


@_shim("ssm", "GetParameter")
async def _get_parameter(shims: Shims, call: Call, request: Request) -> Response:
    """AWS's image for Graviton is, here, the one for x86."""
    body = _body(request)
    name = body.get("Name", "")
    if name != f"{_IMAGE}arm64":
        return await shims.ask(call, request)
    answer = await shims.ask(call, replace(request, body=json.dumps({**body, "Name": f"{_IMAGE}x86_64"}).encode()))
    return replace(answer, body=answer.body.replace(f"{_IMAGE}x86_64".encode(), name.encode()))


@_shim("ssm", "DescribeInstanceInformation")
async def _instance_information(shims: Shims, call: Call, request: Request) -> Response:
    """Every instance that runs and has a role is connected: what its role lets it do is not looked at."""
    body = _body(request)
    if refusal := _refusal(call, body):
        return refusal
    wanted = [value for one in body.get("Filters", []) if one["Key"] == "InstanceIds" for value in one["Values"]]
    root = _xml(await _query_call(shims, request, call.region, "ec2", "DescribeInstances", "2016-11-15"))
    found = [
        {"InstanceId": identifier, "PingStatus": "Online", "PlatformType": "Linux", "ResourceType": "EC2Instance"}
        for instances in _elements(root, "instancesSet")
        for instance in instances
        if (identifier := _text(instance, "instanceId")) in wanted or not wanted
        if any(_text(state, "name") == "running" for state in _elements(instance, "instanceState"))
        if any(_elements(instance, "iamInstanceProfile"))
    ]
    return json_response(200, {"InstanceInformationList": found}, "application/x-amz-json-1.1")


# --- Service Quotas -------------------------------------------------------------------------------


@_shim(
    "servicequotas",
    *("GetServiceQuota", "GetAWSDefaultServiceQuota", "ListServiceQuotas", "ListAWSDefaultServiceQuotas"),
    "RequestServiceQuotaIncrease",
)
async def _quotas(shims: Shims, call: Call, request: Request) -> Response:
    body = _body(request)
    if refusal := _refusal(call, body):
        return refusal
    account = request.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
    quotas: Quotas = shims.memory("quotas", call.region).setdefault("all", Quotas(call.region, account))
    try:
        return json_response(200, quotas.answer(call.action, body), "application/x-amz-json-1.1")
    except Refused as refused:
        return error(call.protocol, call.service, refused.code, str(refused), 400)


# --- Auto Scaling ---------------------------------------------------------------------------------


@_shim("autoscaling", "DescribeTags")
async def _describe_tags(shims: Shims, call: Call, request: Request) -> Response:
    answer = await shims.ask(call, request)
    if answer.status != 200:
        return answer
    filters: dict[str, list[str]] = {}
    names = {"auto-scaling-group": "ResourceId", "key": "Key", "value": "Value"}
    for key, value in call.parameters.items():
        if match := re.match(r"Filters\.member\.\d+\.Name$", key):
            filters[value] = _members(call.parameters, match.group().replace("Name", "Values.member."))
    root = _xml(answer)
    for tags in _elements(root, "Tags"):
        for tag in list(tags):
            wanted = all(_text(tag, names[name]) in values for name, values in filters.items() if name in names)
            if not wanted:
                tags.remove(tag)
    return _with_xml(answer, root)


# --- Calls of our own -----------------------------------------------------------------------------

_TARGETS = {"secretsmanager": "secretsmanager", "ecs": "AmazonEC2ContainerServiceV20141113"}


def _signed_for(service: str, request: Request, region: str) -> dict[str, str]:
    """Return the header of a call to another service, of who made this one."""
    scope = request.headers.get("Authorization", "").partition("Credential=")[2].split("/")
    key, day = (*scope, "")[:2]
    signed = f"AWS4-HMAC-SHA256 Credential={key}/{day}/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    return {"Authorization": signed}


async def _json_call(
    shims: Shims, request: Request, region: str, service: str, action: str, body: Document
) -> Document:
    """Call an operation of a JSON service, in the account of the request that needs it."""
    headers = CIMultiDict(
        _signed_for(service, request, region),
        **{"X-Amz-Target": f"{_TARGETS[service]}.{action}", "Content-Type": "application/x-amz-json-1.1"},
    )
    asked = Request("POST", "/", "", headers, json.dumps(body).encode())
    answer = await shims.ask(Call(service, action, "json", region), asked)
    if answer.status != 200:
        raise RuntimeError(f"{service} {action} answered {answer.status}: {answer.body!r}")
    document: Document = json.loads(answer.body or b"{}")
    return document


async def _query_call(shims: Shims, request: Request, region: str, service: str, action: str, version: str) -> Response:
    """Call an operation of a service that takes forms, in the account of the request that needs it."""
    form = {"Action": action, "Version": version}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    headers = CIMultiDict(_signed_for(service, request, region), **kind)
    asked = Request("POST", "/", "", headers, urlencode(form).encode())
    return await shims.ask(Call(service, action, "ec2", region, form), asked)


# --- Documents ------------------------------------------------------------------------------------


def _last(path: str) -> str:
    return unquote(path.rstrip("/").rpartition("/")[2])


def _body(request: Request) -> Document:
    document: Document = json.loads(request.body or b"{}")
    return document


def _refusal(call: Call, params: Document) -> Response | None:
    """Return the refusal of a request that breaks the service's own model, which ministack does not read."""
    model = next(model for model in models(call.service) if call.action in model.operation_names)
    shape = model.operation_model(call.action).input_shape
    assert isinstance(shape, StructureShape)
    try:
        validate(params, shape)
    except AwsError as problem:
        code = "InvalidParameterException" if call.service == "eks" else "ValidationException"
        return error(call.protocol, call.service, code, problem.message, 400)
    return None


def _with_json(answer: Response, document: Document) -> Response:
    return replace(answer, body=json.dumps(document).encode())


def _xml(answer: Response) -> ElementTree.Element:
    return ElementTree.fromstring(answer.body)


def _with_xml(answer: Response, root: ElementTree.Element) -> Response:
    namespace = root.tag[1:].partition("}")[0] if root.tag.startswith("{") else ""
    body: bytes = ElementTree.tostring(
        root, encoding="utf-8", xml_declaration=True, default_namespace=namespace or None
    )
    return replace(answer, body=body)


def _elements(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Yield the elements of a name below this one, in any namespace."""
    return (found for found in element.iter() if found.tag.rpartition("}")[2] == name)


def _text(element: ElementTree.Element, name: str) -> str:
    found = next((child for child in element if child.tag.rpartition("}")[2] == name), None)
    return (found.text or "") if found is not None else ""


def _put(element: ElementTree.Element, name: str, value: Any) -> None:
    """Set a child to a text, a structure, or a list of either, in place of what is there."""
    namespace = element.tag.partition("}")[0] + "}" if element.tag.startswith("{") else ""
    for old in [child for child in element if child.tag == f"{namespace}{name}"]:
        element.remove(old)
    _add(element, name, value)


def _add(element: ElementTree.Element, name: str, value: Any) -> None:
    namespace = element.tag.partition("}")[0] + "}" if element.tag.startswith("{") else ""
    child = ElementTree.SubElement(element, f"{namespace}{name}")
    if isinstance(value, dict):
        for key, inner in value.items():
            _put(child, key, inner)
    elif isinstance(value, list):
        for inner in value:
            entry = ElementTree.SubElement(child, f"{namespace}{'member' if name[0].isupper() else 'item'}")
            if isinstance(inner, dict):
                for key, innermost in inner.items():
                    _put(entry, key, innermost)
            else:
                entry.text = str(inner)
    else:
        child.text = str(value)


def _members(form: Any, prefix: str) -> list[str]:
    """Return the values of a list in a query's parameters."""
    found = {key.removeprefix(prefix): value for key, value in form.items() if key.startswith(prefix)}
    return [found[key] for key in sorted(found, key=int) if key.isdigit()]
