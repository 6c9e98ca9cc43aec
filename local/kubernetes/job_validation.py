"""What the API server adds to a Job, and what it refuses of one with 422 Invalid.

Rules and messages follow k8s.io/kubernetes/pkg/apis/batch. What the local job controller does not do is refused with
a message that says so, instead of being left undone.
"""

from __future__ import annotations

import dataclasses
import json

from local.kubernetes import defaults
from local.kubernetes.errors import JSON, Causes
from local.kubernetes.names import name_problems
from local.kubernetes.validation import MAX_INT32, check_labels, check_metadata, check_pod_spec

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
_OLD_LABELS = {"controller-uid": CONTROLLER_UID, "job-name": JOB_NAME}
_MAX_PARALLELISM_INDEXED = 100_000
_NOT_HERE = "the local Kubernetes API has no such jobs; leave it out"
_UNSUPPORTED = ("backoffLimitPerIndex", "maxFailedIndexes", "podFailurePolicy", "successPolicy", "managedBy")


def default_job(job: JSON) -> None:
    """Fill in a job's defaults, its selector and its pods' labels, in place; it has its uid already."""
    spec = job.setdefault("spec", {})
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    for name, value in {
        "parallelism": 1,
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "manualSelector": False,
        "podReplacementPolicy": "TerminatingOrFailed",
    }.items():
        spec.setdefault(name, value)
    template = spec.setdefault("template", {})
    metadata = template.setdefault("metadata", {})
    if metadata.get("labels") and not job["metadata"].get("labels"):
        job["metadata"]["labels"] = dict(metadata["labels"])
    defaults.default_pod(template)
    if not spec["manualSelector"]:
        own = {CONTROLLER_UID: job["metadata"].get("uid", ""), JOB_NAME: job["metadata"].get("name", "")}
        own |= {old: own[new] for old, new in _OLD_LABELS.items()}
        metadata["labels"] = own | metadata.get("labels", {})
        spec.setdefault("selector", {"matchLabels": {CONTROLLER_UID: own[CONTROLLER_UID]}})


def check_job(job: JSON) -> None:
    """Raise 422 naming everything that is wrong with a (defaulted) job."""
    causes = Causes()
    check_metadata(causes, job["metadata"])
    spec, name = job["spec"], job["metadata"].get("name", "")
    _check_selector(causes, job)
    _check_numbers(causes, spec)
    _check_mode(causes, spec, name)
    _check_template(causes, spec["template"])
    _check_supported(causes, spec)
    causes.raise_if_any("Job", name)


def check_job_update(old: JSON, new: JSON) -> None:
    """Raise 422 when an update changes what may not change in a job."""
    causes = Causes()
    check_metadata(causes, new["metadata"])
    before, after = old["spec"], new["spec"]
    for field in ("selector", "template", "completionMode"):
        if before.get(field) != after.get(field):
            causes.invalid(f"spec.{field}", json.dumps(after.get(field)), "field is immutable")
    if before.get("completions") != after.get("completions"):
        if after["completionMode"] != "Indexed":
            causes.invalid("spec.completions", after.get("completions"), "field is immutable")
        elif after.get("completions") != after["parallelism"]:
            causes.invalid(
                "spec.completions", after.get("completions"), "can only be modified in tandem with spec.parallelism"
            )
    _check_numbers(causes, after)
    _check_supported(causes, after)
    causes.raise_if_any("Job", old["metadata"]["name"])


def _check_selector(causes: Causes, job: JSON) -> None:
    spec, labels = job["spec"], job["spec"]["template"]["metadata"].get("labels", {})
    if spec["manualSelector"]:
        causes.invalid(
            "spec.manualSelector", True, "the local Kubernetes API chooses every job's selector; leave it out"
        )
        return
    uid, name = job["metadata"].get("uid", ""), job["metadata"].get("name", "")
    if spec["selector"] != {"matchLabels": {CONTROLLER_UID: uid}}:
        causes.invalid("spec.selector", json.dumps(spec["selector"]), "`selector` not auto-generated")
    for label, value in {CONTROLLER_UID: uid, JOB_NAME: name, "controller-uid": uid, "job-name": name}.items():
        if labels.get(label) != value:
            causes.invalid(f"spec.template.metadata.labels[{label}]", labels.get(label), f"must be '{value}'")


def _check_numbers(causes: Causes, spec: JSON) -> None:
    for field in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        value = spec.get(field)
        if value is None:
            continue
        if value < 0:
            causes.invalid(f"spec.{field}", value, "must be greater than or equal to 0")
        elif value > MAX_INT32 and field != "activeDeadlineSeconds":
            causes.invalid(f"spec.{field}", value, f"must be less than or equal to {MAX_INT32}")


def _check_mode(causes: Causes, spec: JSON, name: str) -> None:
    mode, completions = spec["completionMode"], spec.get("completions")
    if mode not in ("NonIndexed", "Indexed"):
        causes.unsupported("spec.completionMode", mode, ["Indexed", "NonIndexed"])
        return
    if mode != "Indexed":
        return
    if completions is None:
        causes.required("spec.completions", "when completion mode is Indexed")
        return
    if spec["parallelism"] > _MAX_PARALLELISM_INDEXED:
        why = f"must be less than or equal to {_MAX_PARALLELISM_INDEXED} when completion mode is Indexed"
        causes.invalid("spec.parallelism", spec["parallelism"], why)
    # Each pod's hostname is the job's name and its index: a name of 63 characters is too long here.
    if name and completions > 0:
        for problem in name_problems(f"{name}-{completions - 1}", label=True):
            causes.invalid("metadata.name", name, f"will not able to create pod with invalid DNS label: {problem}")


def _check_template(causes: Causes, template: JSON) -> None:
    labels = template["metadata"].get("labels", {})
    check_labels(causes, "spec.template.labels", {key: value for key, value in labels.items() if value})
    found = Causes()
    check_pod_spec(found, template["spec"])
    if template["spec"]["restartPolicy"] not in ("OnFailure", "Never"):
        found[:] = [cause for cause in found if cause.field != "spec.restartPolicy"]
        causes.required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    causes.extend(dataclasses.replace(cause, field=f"spec.template.{cause.field}") for cause in found)


def _check_supported(causes: Causes, spec: JSON) -> None:
    for field in _UNSUPPORTED:
        if spec.get(field) is not None:
            causes.forbidden(f"spec.{field}", _NOT_HERE)
    if spec["suspend"]:
        causes.forbidden("spec.suspend", "the local Kubernetes API starts every job at once; leave it out")
    if spec["podReplacementPolicy"] != "TerminatingOrFailed":
        causes.forbidden("spec.podReplacementPolicy", "the local Kubernetes API replaces pods TerminatingOrFailed only")
