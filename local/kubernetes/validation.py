"""What the API server refuses with 422 Invalid.

Rules and messages follow k8s.io/apimachinery/pkg/util/validation and pkg/apis/core/validation. Checks that
no pod of this platform can run into (Windows, CSI, ephemeral containers, probes ...) are left out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from local.kubernetes import quantities
from local.kubernetes.errors import JSON, ApiError, Causes
from local.kubernetes.names import label_value_problems, length_problems, name_problems, qualified_name_problems

_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
MAX_INT32 = 2**31 - 1
_STANDARD_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_FIELD_PATH_WITH_KEY = re.compile(r"metadata\.(labels|annotations)\['.+'\]")
_TAINT_EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"]


def _invalid_all(causes: Causes, field: str, value: object, problems: Iterable[str]) -> None:
    for problem in problems:
        causes.invalid(field, value, problem)


def check_metadata(causes: Causes, metadata: JSON, *, label_name: bool = False) -> None:
    """Check name, labels and annotations."""
    name = metadata.get("name", "")
    if not name:
        causes.required("metadata.name", "name or generateName is required")
    else:
        _invalid_all(causes, "metadata.name", name, name_problems(name, label=label_name))
    check_labels(causes, "metadata.labels", metadata.get("labels", {}))
    annotations = metadata.get("annotations", {})
    for key in annotations:
        _invalid_all(causes, "metadata.annotations", key, qualified_name_problems(key.lower()))
    if sum(len(key) + len(value) for key, value in annotations.items()) > 256 * 1024:
        causes.append_too_long("metadata.annotations", 256 * 1024)


def check_labels(causes: Causes, field: str, labels: dict[str, str]) -> None:
    """Check keys and values of labels."""
    for key, value in labels.items():
        _invalid_all(causes, field, key, qualified_name_problems(key))
        _invalid_all(causes, field, value, label_value_problems(value))


def check_pod(pod: JSON) -> None:
    """Raise 422 naming everything that is wrong with a (defaulted) pod."""
    causes = Causes()
    check_metadata(causes, pod["metadata"])
    check_pod_spec(causes, pod["spec"])
    causes.raise_if_any("Pod", pod["metadata"].get("name", ""))


def check_pod_spec(causes: Causes, spec: JSON) -> None:
    """Check the (defaulted) spec of a pod, whose fields are called ``spec.…``."""
    _check_volumes(causes, spec.get("volumes", []))
    volumes = {volume.get("name", "") for volume in spec.get("volumes", [])}
    if not spec.get("containers"):
        causes.required("spec.containers")
    seen: set[str] = set()
    for list_name in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(list_name, [])):
            _check_container(causes, f"spec.{list_name}[{index}]", container, volumes, seen)
            if container.get("restartPolicy"):
                causes.invalid(
                    f"spec.{list_name}[{index}].restartPolicy",
                    container["restartPolicy"],
                    "the local Kubernetes API runs every container once; leave restartPolicy of containers out",
                )
    _check_pod_policies(causes, spec)
    for index, toleration in enumerate(spec.get("tolerations", [])):
        _check_toleration(causes, f"spec.tolerations[{index}]", toleration)
    check_labels(causes, "spec.nodeSelector", spec.get("nodeSelector", {}))
    _check_node_affinity(causes, spec.get("affinity", {}).get("nodeAffinity", {}))


def _check_pod_policies(causes: Causes, spec: JSON) -> None:
    policy = spec["restartPolicy"]
    if policy not in ("Always", "OnFailure", "Never"):
        causes.unsupported("spec.restartPolicy", policy, ["Always", "OnFailure", "Never"])
    elif policy != "Never":
        causes.invalid(
            "spec.restartPolicy",
            policy,
            "the local Kubernetes API runs pods to completion only; set restartPolicy: Never (the default is Always)",
        )
    if spec["dnsPolicy"] not in ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"):
        causes.unsupported(
            "spec.dnsPolicy", spec["dnsPolicy"], ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]
        )
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= MAX_INT32:
        causes.invalid("spec.activeDeadlineSeconds", deadline, f"must be between 1 and {MAX_INT32}, inclusive")
    if spec["terminationGracePeriodSeconds"] < 0:
        causes.invalid(
            "spec.terminationGracePeriodSeconds",
            spec["terminationGracePeriodSeconds"],
            "must be greater than or equal to 0",
        )
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            _invalid_all(causes, f"spec.{name}", spec[name], name_problems(spec[name], label=True))
    account = spec["serviceAccountName"]
    _invalid_all(causes, "spec.serviceAccountName", account, name_problems(account))
    for index, secret in enumerate(spec.get("imagePullSecrets", [])):
        if not secret.get("name"):
            causes.required(f"spec.imagePullSecrets[{index}].name")


def _check_container(causes: Causes, field: str, container: JSON, volumes: set[str], seen: set[str]) -> None:
    name = container.get("name", "")
    if not name:
        causes.required(f"{field}.name")
    else:
        _invalid_all(causes, f"{field}.name", name, name_problems(name, label=True))
        if name in seen:
            causes.duplicate(f"{field}.name", name)
        seen.add(name)
    image = container.get("image", "")
    if not image:
        causes.required(f"{field}.image")
    elif image != image.strip():
        causes.invalid(f"{field}.image", image, "must not have leading or trailing whitespace")
    if container["imagePullPolicy"] not in ("Always", "IfNotPresent", "Never"):
        causes.unsupported(
            f"{field}.imagePullPolicy", container["imagePullPolicy"], ["Always", "IfNotPresent", "Never"]
        )
    if container["terminationMessagePolicy"] not in ("File", "FallbackToLogsOnError"):
        causes.unsupported(
            f"{field}.terminationMessagePolicy",
            container["terminationMessagePolicy"],
            ["FallbackToLogsOnError", "File"],
        )
    for index, port in enumerate(container.get("ports", [])):
        if not 1 <= port.get("containerPort", 0) <= 65535:
            causes.invalid(
                f"{field}.ports[{index}].containerPort",
                port.get("containerPort", 0),
                "must be between 1 and 65535, inclusive",
            )
        if port["protocol"] not in ("TCP", "UDP", "SCTP"):
            causes.unsupported(f"{field}.ports[{index}].protocol", port["protocol"], ["SCTP", "TCP", "UDP"])
    for index, variable in enumerate(container.get("env", [])):
        _check_env(causes, f"{field}.env[{index}]", variable)
    for index, source in enumerate(container.get("envFrom", [])):
        _check_env_from(causes, f"{field}.envFrom[{index}]", source)
    _check_mounts(causes, field, container.get("volumeMounts", []), volumes)
    _check_resources(causes, f"{field}.resources", container["resources"])


def _check_env(causes: Causes, field: str, variable: JSON) -> None:
    name = variable.get("name", "")
    if not name:
        causes.required(f"{field}.name")
    elif not re.fullmatch(r"[ -<>-~]+", name):
        causes.invalid(
            f"{field}.name",
            name,
            "a valid environment variable name must consist only of printable ASCII characters other than '='",
        )
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        causes.invalid(f"{field}.valueFrom", "", "may not be specified when `value` is not empty")
    if len(source) == 0:
        causes.invalid(
            f"{field}.valueFrom",
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        )
    elif len(source) > 1:
        causes.invalid(f"{field}.valueFrom", "", "may not have more than one field specified at a time")
    if "fieldRef" in source:
        path = source["fieldRef"].get("fieldPath", "")
        if not path:
            causes.required(f"{field}.valueFrom.fieldRef.fieldPath")
        elif path not in _FIELD_PATHS and not _FIELD_PATH_WITH_KEY.fullmatch(path):
            causes.invalid(
                f"{field}.valueFrom.fieldRef.fieldPath",
                path,
                "error converting fieldPath: field label not supported: " + path,
            )
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            if not source[kind].get("name"):
                causes.required(f"{field}.valueFrom.{kind}.name")
            if not source[kind].get("key"):
                causes.required(f"{field}.valueFrom.{kind}.key")
    if "resourceFieldRef" in source and not source["resourceFieldRef"].get("resource"):
        causes.required(f"{field}.valueFrom.resourceFieldRef.resource")


def _check_env_from(causes: Causes, field: str, source: JSON) -> None:
    kinds = [kind for kind in ("configMapRef", "secretRef") if kind in source]
    if not kinds:
        causes.invalid(field, "", "must specify one of: `configMapRef` or `secretRef`")
    elif len(kinds) > 1:
        causes.invalid(field, "", "may not have more than one field specified at a time")
    for kind in kinds:
        if not source[kind].get("name"):
            causes.required(f"{field}.{kind}.name")


def _check_mounts(causes: Causes, field: str, mounts: list[JSON], volumes: set[str]) -> None:
    paths: set[str] = set()
    for index, mount in enumerate(mounts):
        where = f"{field}.volumeMounts[{index}]"
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            causes.required(f"{where}.name")
        elif name not in volumes:
            causes.not_found(f"{where}.name", name)
        if not path:
            causes.required(f"{where}.mountPath")
        elif path in paths:
            causes.invalid(f"{where}.mountPath", path, "must be unique")
        paths.add(path)
        if mount.get("subPath", "").startswith("/"):
            causes.invalid(f"{where}.subPath", mount["subPath"], "must be a relative path")
        if ".." in mount.get("subPath", "").split("/"):
            causes.invalid(f"{where}.subPath", mount["subPath"], "must not contain '..'")


def _check_resources(causes: Causes, field: str, resources: JSON) -> None:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, text in amounts.items():
            where = f"{field}.{kind}[{name}]"
            _invalid_all(causes, f"{field}.{kind}", name, qualified_name_problems(name))
            if "/" not in name and name not in _STANDARD_RESOURCES and not name.startswith("hugepages-"):
                causes.invalid(where, name, "must be a standard resource type or fully qualified")
                causes.invalid(where, name, "must be a standard resource for containers")
            amount = quantities.parse(text)
            if amount < 0:
                causes.invalid(where, text, "must be greater than or equal to 0")
            if "/" in name and amount != amount.to_integral_value():
                causes.invalid(where, text, "must be an integer")
    for name, text in requests.items():
        where = f"{field}.requests"
        if name in limits:
            request, limit = quantities.parse(text), quantities.parse(limits[name])
            if "/" in name and request != limit:
                causes.invalid(where, text, f"must be equal to {name} limit of {limits[name]}")
            elif request > limit:
                causes.invalid(where, text, f"must be less than or equal to {name} limit of {limits[name]}")
        elif "/" in name:
            causes.required(f"{field}.limits", "Limit must be set for non overcommitable resources")


def _check_volumes(causes: Causes, volumes: list[JSON]) -> None:
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        field, name = f"spec.volumes[{index}]", volume.get("name", "")
        if not name:
            causes.required(f"{field}.name")
        else:
            _invalid_all(causes, f"{field}.name", name, name_problems(name, label=True))
            if name in names:
                causes.duplicate(f"{field}.name", name)
            names.add(name)
        sources = [key for key in volume if key != "name"]
        for extra in sources[1:]:
            causes.forbidden(f"{field}.{extra}", "may not specify more than 1 volume type")
        if "configMap" in volume and not volume["configMap"].get("name"):
            causes.required(f"{field}.configMap.name")
        if "secret" in volume and not volume["secret"].get("secretName"):
            causes.required(f"{field}.secret.secretName")
        if "persistentVolumeClaim" in volume and not volume["persistentVolumeClaim"].get("claimName"):
            causes.required(f"{field}.persistentVolumeClaim.claimName")
        if "hostPath" in volume and not volume["hostPath"].get("path"):
            causes.required(f"{field}.hostPath.path")


def _check_toleration(causes: Causes, field: str, toleration: JSON) -> None:
    key, operator = toleration.get("key", ""), toleration.get("operator", "Equal")
    if key:
        _invalid_all(causes, f"{field}.key", key, qualified_name_problems(key))
    elif operator != "Exists":
        causes.invalid(
            f"{field}.operator",
            operator,
            'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        )
    if operator == "Equal":
        _invalid_all(
            causes, f"{field}.operator", toleration.get("value", ""), label_value_problems(toleration.get("value", ""))
        )
    elif operator == "Exists":
        if toleration.get("value"):
            causes.invalid(f"{field}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'")
    else:
        causes.unsupported(f"{field}.operator", operator, ["Equal", "Exists"])
    effect = toleration.get("effect", "")
    if effect and effect not in _TAINT_EFFECTS:
        causes.unsupported(f"{field}.effect", effect, sorted(_TAINT_EFFECTS))
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        causes.invalid(f"{field}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")


def _check_node_affinity(causes: Causes, affinity: JSON) -> None:
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return
    field = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    if not required.get("nodeSelectorTerms"):
        causes.required(field, "must have at least one node selector term")
    for t, term in enumerate(required.get("nodeSelectorTerms", [])):
        for e, expression in enumerate(term.get("matchExpressions", [])):
            where = f"{field}[{t}].matchExpressions[{e}]"
            operator, values = expression.get("operator", ""), expression.get("values", [])
            if operator in ("In", "NotIn"):
                if not values:
                    causes.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
            elif operator in ("Exists", "DoesNotExist"):
                if values:
                    causes.forbidden(
                        f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    )
            elif operator in ("Gt", "Lt"):
                if len(values) != 1:
                    causes.required(f"{where}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
            else:
                causes.invalid(f"{where}.operator", operator, "not a valid selector operator")


_POD_UPDATE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def check_pod_update(old: JSON, new: JSON) -> None:
    """Raise 422 when an update changes what may not change in a pod."""
    causes = Causes()
    check_metadata(causes, new["metadata"])
    before, after = old["spec"], dict(new["spec"])
    deadline, new_deadline = before.get("activeDeadlineSeconds"), after.get("activeDeadlineSeconds")
    if deadline is not None and (new_deadline is None or new_deadline > deadline):
        causes.invalid(
            "spec.activeDeadlineSeconds", new_deadline, f"must be less than or equal to previous value: {deadline}"
        )
    elif new_deadline is not None and not 1 <= new_deadline <= MAX_INT32:
        causes.invalid("spec.activeDeadlineSeconds", new_deadline, f"must be between 1 and {MAX_INT32}, inclusive")
    tolerations = after.get("tolerations", [])
    if any(toleration not in tolerations for toleration in before.get("tolerations", [])):
        causes.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    if _frozen(before) != _frozen(after):
        causes.forbidden("spec", _POD_UPDATE)
    causes.raise_if_any("Pod", old["metadata"]["name"])


def _frozen(spec: JSON) -> JSON:
    frozen = {key: value for key, value in spec.items() if key not in ("activeDeadlineSeconds", "tolerations")}
    for kind in ("containers", "initContainers"):
        if kind in frozen:
            frozen[kind] = [{k: v for k, v in container.items() if k != "image"} for container in frozen[kind]]
    return frozen


def check_config(kind: str, obj: JSON) -> None:
    """Check a ConfigMap or Secret; moves a secret's stringData into data."""
    causes = Causes()
    check_metadata(causes, obj["metadata"])
    if kind == "Secret":
        for key, value in obj.pop("stringData", {}).items():
            obj.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()
        obj.setdefault("type", "Opaque")
        for value in obj.get("data", {}).values():
            try:
                base64.b64decode(value, validate=True)
            except binascii.Error as error:
                raise ApiError(
                    400, f'Secret in version "v1" cannot be handled as a Secret: illegal base64 data: {error}'
                ) from error
    for field in ("data", "binaryData"):
        for key in obj.get(field, {}):
            problems = length_problems(key, 253) + ([] if _CONFIG_KEY.fullmatch(key) else [_CONFIG_KEY_TEXT])
            _invalid_all(causes, f"{field}[{key}]", key, problems)
    if sum(len(v) for field in ("data", "binaryData") for v in obj.get(field, {}).values()) > 1024 * 1024:
        causes.append_too_long("data" if kind == "Secret" else "", 1024 * 1024)
    causes.raise_if_any(kind, obj["metadata"].get("name", ""))
