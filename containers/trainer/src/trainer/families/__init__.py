"""Model families. A new one is a module here that defines ``FAMILY``, and a file in ``config/families``."""

from __future__ import annotations

from importlib import import_module

from mlplatform.config.family import FamilySpec
from mlplatform.errors import NonRetryableError
from trainer.families.base import ModelFamily


def load_family(spec: FamilySpec) -> ModelFamily:
    """Import a family and its libraries; those of the others are not touched.

    Raises:
        NonRetryableError: this image has no such family.
    """
    try:
        family: ModelFamily = import_module(spec.module).FAMILY
    except ImportError as error:
        raise NonRetryableError(
            f"config/families/{spec.name}.yaml: module: {error}; image {spec.image} has to bring it", kind="bad-config"
        ) from None
    return family
