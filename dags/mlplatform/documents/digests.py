"""Identities of content: of a configuration, of a run.

The run key is a hash of everything that decides the outcome: the input files' contents, the effective
configuration and the images. All outputs of a run live under it, so the same work is never done twice:
a finished run is recognised, a failed one goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from mlplatform.config.environment import Images
from mlplatform.documents.inputs import InputObject


def digest(*parts: Any) -> str:
    """Return a short, stable hash of JSON-serialisable parts (20 hex digits)."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def run_key(
    objects: Iterable[InputObject],
    configuration: Mapping[str, Any],
    images: Images,
) -> str:
    """Return the identity of a run: equal inputs, configuration and images give an equal key.

    Args:
        objects: the files it reads.
        configuration: everything that was chosen and decides the outcome, as JSON has it.
        images: of the steps.
    """
    inputs = sorted((item.table, item.key.rsplit("/", 1)[-1], item.content_id) for item in objects)
    return digest(inputs, configuration, images.model_dump(mode="json"))
