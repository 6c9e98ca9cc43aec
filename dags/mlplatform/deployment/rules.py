"""May a version be deployed? Pure rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from mlplatform.documents.decisions import ApprovedModel, AuditEntry


def approval_problems(
    model: ApprovedModel,
    tags: Mapping[str, str],
    approvals: Sequence[AuditEntry],
    champion: str | Literal[False] | None,
) -> list[str]:
    """Return why a version may not be deployed; empty if it may.

    Args:
        model: that is to be deployed.
        tags: of its version in the registry.
        approvals: the audit log's approvals of the version.
        champion: the present one, which must still be the one compared with; False where that does not matter.
    """
    name = f"version {model.version} of {model.registered_model}"
    if tags.get("approval") != "approved":
        return [f"{name} is not approved (tag approval: {tags.get('approval', 'none')})"]
    found = []
    if tags.get("approval_evaluation_digest") != tags.get("evaluation_digest"):
        found.append(f"{name} was evaluated again after its approval")
    if model.evaluation_digest != tags.get("evaluation_digest"):
        found.append(f"{name} was approved on evaluation {model.evaluation_digest}, which is not its present one")
    if model.model_digest != tags.get("model_digest"):
        found.append(f"the files of {name} are not those that were approved")
    approval = next(
        (
            entry
            for entry in approvals
            if (entry.registered_model, entry.evaluation_digest, entry.model_digest)
            == (model.registered_model, model.evaluation_digest, model.model_digest)
        ),
        None,
    )
    if approval is None:
        found.append(f"the audit log has no approval of {name} on evaluation {model.evaluation_digest}")
    elif champion is not False and champion not in (approval.details.get("champion_version") or None, model.version):
        found.append(
            f"the champion is now {f'version {champion}' if champion else 'none'}, and not the one that {name} was "
            "compared with; train and evaluate again"
        )
    return found
