"""Whether a container may run as the user it would run as: what the kubelet makes of `runAsNonRoot`."""

from __future__ import annotations

from local.images import Image
from local.kubernetes.errors import JSON


def problem(pod: JSON, container: JSON, image: Image) -> str | None:
    """Return why a container must not start, in the kubelet's words; None when it may."""
    context = pod["spec"].get("securityContext", {}) | container.get("securityContext", {})
    if not context.get("runAsNonRoot"):
        return None
    metadata = pod["metadata"]
    where = f'(pod: "{metadata["name"]}_{metadata["namespace"]}({metadata["uid"]})", container: {container["name"]})'
    if "runAsUser" in context:
        return None if context["runAsUser"] != 0 else f"container's runAsUser breaks non-root policy {where}"
    user = image.user.partition(":")[0]
    if user.isdecimal() and int(user) != 0:
        return None
    if user and not user.isdecimal():
        return (
            f"container has runAsNonRoot and image has non-numeric user ({user}), "
            f"cannot verify user is non-root {where}"
        )
    return f"container has runAsNonRoot and image will run as root {where}"
