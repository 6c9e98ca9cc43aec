"""Plans of the real roots, without an AWS account, in which everything is known.

A first plan knows no ARN, and an IAM document that names one is unknown as a whole: there would be nothing to judge. So
the plan is made as if all had been applied once:

1. plan from nothing;
2. write a state that holds what was planned, with likely values where the plan says "known after apply";
3. plan again without refreshing: what refers to those values, the documents above all, is now known.

Steps 2 and 3 are repeated while something of a document is still unknown. AWS is never asked: credentials are made up,
and what a plan asks, who it is, which image AWS has newest and what there is in which zone, is answered here; anything
else is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cloud.errors import CloudError
from cloud.terraform import Terraform
from tests.policies.answers import ACCOUNT, REGION, answer
from tests.policies.documents import undecided
from tests.policies.resources import from_plan

ROOT = Path(__file__).resolve().parents[2]
MAXIMUM_ROUNDS = 4
STATE = "terraform.tfstate"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/ml-platform/{{}}@sha256:{'0' * 64}"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/ml-platform-boundary"
CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/00000000-0000-0000-0000-000000000000"
ENVIRONMENTS = ("dev", "staging", "prod")

VARIABLES: dict[str, Any] = {
    "region": REGION,
    "images": {name: IMAGE.format(name) for name in ("deployer", "mlflow", "serving", "trainer", "trainer_cuda")},
    "permissions_boundary_arn": BOUNDARY,
    "alert_email_addresses": ["team@example.com"],
    "private_client_cidrs": ["10.8.0.0/16"],
    "private_client_security_group_ids": {"vpn": "sg-0123456789abcdef0"},
}
"""What people give each environment."""
OWN_VARIABLES: dict[str, dict[str, Any]] = {
    "staging": {"mlflow_certificate_arn": CERTIFICATE, "mlflow_domain_name": "mlflow.staging.example.com"},
    "prod": {"mlflow_certificate_arn": CERTIFICATE, "mlflow_domain_name": "mlflow.example.com"},
}
"""What one environment asks for besides."""

_EMPTY_DOCUMENT = json.dumps({"Version": "2012-10-17", "Statement": []})
# What AWS itself puts there when nothing is asked for.
_OPEN_ENDPOINT = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Action": "*", "Effect": "Allow", "Principal": "*", "Resource": "*"}]}
)
# What may be given or left to the service, and is referred to either way.
_ASKED_FOR = frozenset(
    {"arn", "bucket", "cidr_block", "id", "identifier", "key_id", "name", "policy", "tags_all", "url"}
)
# Of the provider that Terraform has built in, whose schema only roots that use it show.
_REMEMBERED = {
    "version": 0,
    "block": {
        "attributes": {
            "id": {"type": "string", "computed": True},
            "input": {"type": "dynamic", "optional": True},
            "output": {"type": "dynamic", "computed": True},
            "triggers_replace": {"type": "dynamic", "optional": True},
        }
    },
}
_PROVIDERS = ("registry.terraform.io/hashicorp/aws", "terraform.io/builtin/terraform")


_EC2_IDS = {
    "aws_eip": "eipalloc",
    "aws_instance": "i",
    "aws_internet_gateway": "igw",
    "aws_launch_template": "lt",
    "aws_nat_gateway": "nat",
    "aws_route_table": "rtb",
    "aws_security_group": "sg",
    "aws_subnet": "subnet",
    "aws_vpc": "vpc",
    "aws_vpc_endpoint": "vpce",
    "aws_vpc_security_group_egress_rule": "sgr",
    "aws_vpc_security_group_ingress_rule": "sgr",
}


class Planner:
    """Plans of one copy of `terraform/`."""

    def __init__(self, workplace: Path, environment: Mapping[str, str], repository: Path = ROOT) -> None:
        """Copy the code to an empty folder; `environment` is that of Terraform, see `account`."""
        self.terraform = workplace / "terraform"
        shutil.copytree(
            repository / "terraform", self.terraform, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*")
        )
        self.call("ml-platform")  # whatever this clone's is called
        for entry in repository.iterdir():
            # Modules read the DAG bundle and the configuration beside terraform/.
            if entry.name != "terraform" and not entry.name.startswith("."):
                (workplace / entry.name).symlink_to(entry)
        self._environment = environment

    def call(self, name: str) -> None:
        """Give the platform another name."""
        (self.terraform / "platform.yaml").write_text(f"name: {name}\nregion_in_names: true\n", encoding="utf-8")

    def plan(
        self,
        root: Path,
        variables: Mapping[str, Any],
        targets: Iterable[str] = (),
        state: Path | None = None,
        rounds: int = MAXIMUM_ROUNDS,
    ) -> dict[str, Any]:
        """Return the plan of a root folder as Terraform's JSON, with its documents known.

        Args:
            root: the folder.
            variables: what people give it.
            targets: the modules or resources that are planned, with what they need; all if none is named.
            state: one that was made up before; from nothing otherwise.
            rounds: with one, names are known, and what refers to a resource that is not there yet is not.

        Raises:
            CloudError: Terraform failed.
        """
        (root / "here_override.tf").write_text('terraform {\n  backend "local" {}\n}\n', encoding="utf-8")
        (root / "here.auto.tfvars.json").write_text(json.dumps(dict(variables)), encoding="utf-8")
        if state:
            shutil.copy(state, root / STATE)
        terraform = Terraform(root, self._environment)
        terraform.init()
        shapes = _Shapes(terraform)
        values: dict[str, dict[str, Any]] = {}
        targets = tuple(targets)
        for _ in range(rounds):
            options = ["-input=false", "-refresh=false", "-lock=false", *(f"-target={target}" for target in targets)]
            terraform.run("plan", *options, "-out=round.tfplan")
            plan = terraform.show("round.tfplan")
            (root / STATE).write_text(json.dumps(shapes.state(plan, values)), encoding="utf-8")
            if not any(undecided(from_plan(plan))):
                break
        return plan


def account(aws: str) -> dict[str, str]:
    """Return the environment of a provider that asks nobody but `aws`, the address of `answering_aws`."""
    return {
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": aws,
        "AWS_REGION": REGION,
        "AWS_MAX_ATTEMPTS": "1",
    }


@contextmanager
def answering_aws() -> Iterator[str]:
    """Serve what a plan asks on a free port of this machine; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            signed = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers.get("Authorization", ""))
            region = signed[1] if signed else REGION
            found = answer(asked.decode(), self.headers.get("X-Amz-Target", ""), region)
            kind, text = found or ("text/xml", "a plan asks AWS for nothing but who it is, images, and zones")
            body = text.encode()
            self.send_response(200 if found else 400)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Shapes:
    """Likely values for what a plan leaves open, shaped as the provider's schema says."""

    _schemas: dict[str, Any] | None = None
    _asking = threading.Lock()

    def __init__(self, terraform: Terraform) -> None:
        with _Shapes._asking:
            if _Shapes._schemas is None:
                # 14 MB, and the same for every root.
                shown = terraform.run("providers", "schema", "-json").stdout
                schemas = json.loads(shown)["provider_schemas"][_PROVIDERS[0]]["resource_schemas"]
                _Shapes._schemas = schemas | {"terraform_data": _REMEMBERED}
        self._resources: dict[str, Any] = _Shapes._schemas or {}

    def state(self, plan: dict[str, Any], values: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Return a state as if the plan had been applied; `values` keeps what was made up, for the next round."""
        resources: dict[tuple[str, str, str], dict[str, Any]] = {}
        shared = _shared(plan)
        for change in plan["resource_changes"]:
            if change["mode"] != "managed" or change["change"].get("after") is None:
                continue
            if change["provider_name"] not in _PROVIDERS:
                raise CloudError(f"{change['address']}: only resources of {_PROVIDERS} can be planned here")
            address, kind = change["address"], change["type"]
            schema = self._resources[kind]
            known = change["change"]["after"]
            attributes = _fill_block(
                schema["block"], known, change["change"].get("after_unknown") or {}, _Made(address, kind, shared)
            )
            attributes = _keep(attributes, values.get(address), change["change"].get("after_unknown") or {})
            values[address] = attributes
            module = change.get("module_address", "")
            resource = resources.setdefault(
                (module, kind, change["name"]),
                {
                    **({"module": module} if module else {}),
                    "mode": "managed",
                    "type": kind,
                    "name": change["name"],
                    "provider": f'provider["{change["provider_name"]}"]',
                    "instances": [],
                },
            )
            instance = {
                "schema_version": schema["version"],
                "attributes": _with_types(attributes, schema["block"]["attributes"]),
                # A mark that comes or goes would be a change of its own.
                "sensitive_attributes": [
                    [{"type": "get_attr", "value": name}]
                    for name, attribute in schema["block"]["attributes"].items()
                    if attribute.get("sensitive")
                ],
            }
            resource["instances"].append(instance | ({"index_key": change["index"]} if "index" in change else {}))
        return {
            "version": 4,
            "terraform_version": plan["terraform_version"],
            "serial": 1,
            "lineage": "00000000-0000-0000-0000-000000000000",
            "outputs": {},
            "resources": list(resources.values()),
        }


def _with_types(values: dict[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Return values as a state has them: those of no fixed type bring theirs along."""
    return {
        name: {"value": value, "type": _type(value)}
        if value is not None and attributes.get(name, {}).get("type") == "dynamic"
        else value
        for name, value in values.items()
    }


def _type(value: str | list[str]) -> Any:
    return "string" if isinstance(value, str) else ["tuple", ["string"] * len(value)]


def _keep(made: dict[str, Any], before: dict[str, Any] | None, unknown: dict[str, Any]) -> dict[str, Any]:
    """What was made up once stays the same in later rounds."""
    if before is None:
        return made
    return {
        name: before[name] if unknown.get(name) is True and name in before else value for name, value in made.items()
    }


def _shared(plan: dict[str, Any]) -> dict[str, str]:
    """Return what a root has one of and most resources refer to; knowing it from the start saves a round."""
    found: dict[str, list[str]] = {"aws_vpc": [], "aws_kms_key": []}
    for change in plan["resource_changes"]:
        if change["mode"] == "managed" and change["type"] in found:
            found[change["type"]].append(change["address"])
    shared = {}
    if len(found["aws_vpc"]) == 1:
        shared["vpc"] = _Made(found["aws_vpc"][0], "aws_vpc").text("id", {})
    if len(found["aws_kms_key"]) == 1:
        shared["key"] = _Made(found["aws_kms_key"][0], "aws_kms_key").text("arn", {})
    return shared


class _Made:
    """The values made up for one resource."""

    def __init__(self, address: str, kind: str, shared: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.shared = shared or {}
        digest = hashlib.sha256(address.encode()).hexdigest()
        self.short = digest[:8]
        self.hex = digest[:17]
        self.uuid = f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"

    def text(self, attribute: str, siblings: Mapping[str, Any]) -> str:
        """Return a likely string for an attribute, beside those that are known."""
        name = next(
            (
                str(siblings[key])
                for key in ("bucket", "name", "identifier", "family", "cluster_name")
                if siblings.get(key)
            ),
            f"{self.kind.removeprefix('aws_').replace('_', '-')}-{self.short}",
        )
        if self.knows(attribute):
            return self.shared["key" if attribute != "vpc_id" else "vpc"]
        if attribute == "arn":
            return self._arn(name, siblings)
        if attribute.endswith("secret_arn"):
            return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-{self.short[:6]}"
        if attribute.endswith("_arn"):
            return f"arn:aws:{self._service()}:{REGION}:{ACCOUNT}:{attribute}/{name}"
        match self.kind, attribute:
            case ("aws_vpc_endpoint", "policy"):
                return _OPEN_ENDPOINT
            case ("aws_kms_key", "key_id" | "id"):
                return self.uuid
            case ("aws_sqs_queue", "url" | "id"):
                return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"
            case ("aws_sns_topic" | "aws_iam_policy" | "aws_lb" | "aws_lb_listener" | "aws_lb_target_group", "id"):
                return self._arn(name, siblings)
            case (_, "policy" | "assume_role_policy" | "policy_document"):
                return _EMPTY_DOCUMENT
            case (_, "account_id" | "owner_id" | "registry_id" | "key_owner"):
                return ACCOUNT
            case (_, "region" | "bucket_region"):
                return REGION
        if "cidr_block" in attribute or attribute == "cidr":
            return "10.99.0.0/24"
        if attribute in ("private_ip", "public_ip"):
            return "10.99.0.10"
        if attribute == "id" and self.kind in _EC2_IDS:
            return f"{_EC2_IDS[self.kind]}-{self.hex}"
        if attribute.endswith("security_group_id"):
            return f"sg-{self.hex}"
        if attribute == "certificate_authority" or attribute == "data":
            return "bm9uZQ=="
        if attribute in ("endpoint", "dns_name", "address", "domain_name") or attribute.endswith("_url"):
            return f"{name}.example.com"
        return name

    def knows(self, attribute: str) -> bool:
        """Whether an attribute names the one network or the one key of the root."""
        if attribute == "vpc_id":
            return "vpc" in self.shared
        key = attribute == "key_arn" or (re.search(r"kms_(master_)?key", attribute) and self.kind != "aws_kms_key")
        return bool(key) and "key" in self.shared

    def _service(self) -> str:
        return self.kind.removeprefix("aws_").split("_")[0]

    def _arn(self, name: str, siblings: Mapping[str, Any]) -> str:
        here = f"{REGION}:{ACCOUNT}"
        known = {
            "aws_cloudwatch_log_group": f"logs:{here}:log-group:{name}",
            "aws_cloudwatch_metric_alarm": f"cloudwatch:{here}:alarm:{siblings.get('alarm_name')}",
            "aws_db_instance": f"rds:{here}:db:{name}",
            "aws_ecs_cluster": f"ecs:{here}:cluster/{name}",
            "aws_ecs_service": f"ecs:{here}:service/{name}/{name}",
            "aws_ecs_task_definition": f"ecs:{here}:task-definition/{name}:1",
            "aws_eks_cluster": f"eks:{here}:cluster/{name}",
            "aws_eks_node_group": f"eks:{here}:nodegroup/{name}/{siblings.get('node_group_name')}/{self.uuid}",
            "aws_iam_openid_connect_provider": f"iam::{ACCOUNT}:oidc-provider/{str(siblings.get('url')).removeprefix('https://')}",
            "aws_iam_policy": f"iam::{ACCOUNT}:policy/{name}",
            "aws_iam_role": f"iam::{ACCOUNT}:role/{name}",
            "aws_kms_key": f"kms:{here}:key/{self.uuid}",
            "aws_lb": f"elasticloadbalancing:{here}:loadbalancer/app/{name}/{self.short}",
            "aws_lb_listener": f"elasticloadbalancing:{here}:listener/app/{name}/{self.short}/{self.short}",
            "aws_lb_target_group": f"elasticloadbalancing:{here}:targetgroup/{name}/{self.short}",
            "aws_mwaa_environment": f"airflow:{here}:environment/{name}",
            "aws_s3_bucket": f"s3:::{name}",
            "aws_sagemaker_endpoint": f"sagemaker:{here}:endpoint/{name}",
            "aws_sagemaker_endpoint_configuration": f"sagemaker:{here}:endpoint-config/{name}",
            "aws_sagemaker_model": f"sagemaker:{here}:model/{name}",
            "aws_secretsmanager_secret": f"secretsmanager:{here}:secret:{name}-{self.short[:6]}",
            "aws_sns_topic": f"sns:{here}:{name}",
            "aws_sqs_queue": f"sqs:{here}:{name}",
        }
        return f"arn:aws:{known.get(self.kind, f'{self._service()}:{here}:{self.kind}/{name}')}"


def _fill_block(block: dict[str, Any], known: dict[str, Any], unknown: dict[str, Any], made: _Made) -> dict[str, Any]:
    """Return every attribute and nested block of a schema's block: known, made up, or null."""
    filled: dict[str, Any] = {}
    for name, attribute in block.get("attributes", {}).items():
        if "nested_type" in attribute:
            filled[name] = known.get(name)
        elif unknown.get(name) is True and _left_open(attribute) and not (name in _ASKED_FOR or made.knows(name)):
            # The service decides; nobody has asked, and a made-up word could be refused.
            filled[name] = _nothing(attribute["type"])
        elif unknown.get(name):
            filled[name] = _fill(attribute["type"], name, known.get(name), unknown[name], made, known)
        else:
            filled[name] = known.get(name)
    for name, nested in block.get("block_types", {}).items():
        listed = nested["nesting_mode"] in ("list", "set")
        if not listed:
            filled[name] = known.get(name)
            continue
        blocks, gaps = known.get(name) or [], unknown.get(name)
        if gaps is True:
            blocks, gaps = [{}], [dict.fromkeys(nested["block"].get("attributes", {}), True)]
            if nested["nesting_mode"] == "set":
                blocks, gaps = [], []
        filled[name] = [
            _fill_block(
                nested["block"], inner, gaps[index] if isinstance(gaps, list) and index < len(gaps) else {}, made
            )
            for index, inner in enumerate(blocks)
        ]
    return filled


def _left_open(attribute: dict[str, Any]) -> bool:
    """Whether an attribute may be given and is otherwise the service's choice."""
    return bool(attribute.get("optional") and attribute.get("computed"))


def _nothing(kind: Any) -> Any:
    """Return the empty value of a schema's type; an absent collection would look like a change in every round."""
    match kind:
        case ["list" | "set", _]:
            return []
        case ["map", _]:
            return {}
        case _:
            return None


def _fill(kind: Any, name: str, known: Any, unknown: Any, made: _Made, siblings: Mapping[str, Any]) -> Any:
    """Return a value of a schema's type, keeping what is known of it."""
    if unknown is not True and known is not None:
        if isinstance(known, list) and isinstance(kind, list):
            return [
                _fill(kind[1], name, inner, gap, made, siblings) if gap else inner
                for inner, gap in zip(known, unknown, strict=False)
            ]
        if isinstance(known, dict):
            inner = kind[1] if kind[0] == "object" else dict.fromkeys([*known, *unknown], kind[1])
            return {
                key: _fill(inner[key], key, known.get(key), unknown.get(key), made, siblings)
                if unknown.get(key)
                else known.get(key)
                for key in inner
            }
        return known
    match kind:
        case "string":
            return made.text(name, siblings)
        case "number":
            return 1
        case "bool":
            return False
        case ["list", inner]:
            return [_fill(inner, name, None, True, made, siblings)]
        case ["object", fields]:
            return {key: _fill(inner, key, None, True, made, {}) for key, inner in dict(fields).items()}
        case ["map", _]:
            return {}
        case _:
            return []
