"""Removes models and endpoint configurations that nobody will go back to."""

from __future__ import annotations

import logging
from collections.abc import Collection

from deployer.plan import made_for
from deployer.rollout import Api
from deployer.sagemaker_api import Made

log = logging.getLogger(__name__)
_BEGINNING = 26
"""So much of an endpoint's name is in all names made for it: of 63 characters, 28 at most say what is deployed, and
9 are the digest of a name that is too long."""


def expired(made: Collection[Made], kept: Collection[str], number: int) -> list[str]:
    """Return the names of all but the newest configurations and those that must be kept, oldest first.

    Args:
        made: all of an endpoint's configurations.
        kept: names that stay in any case.
        number: so many of the newest stay.
    """
    newest_first = sorted(made, key=lambda item: (item.created, item.name), reverse=True)
    return [item.name for item in reversed(newest_first[number:]) if item.name not in kept]


def clean_up(api: Api, endpoint_name: str, kept: Collection[str], number: int) -> list[str]:
    """Delete old configurations of an endpoint, then the models that no configuration of it uses any more.

    Only what a deployment of this endpoint made, by its name: Terraform's bootstrap pair is never touched.

    Returns:
        The names of what was deleted.
    """
    text = endpoint_name[:_BEGINNING].rstrip("-")
    configs = [item for item in api.configs(text) if made_for(endpoint_name, item.name)]
    gone = expired(configs, kept, number)
    for name in gone:
        api.delete_config(name)
    used = set()
    for item in configs:
        if item.name not in gone and (content := api.describe_config(item.name)) is not None:
            used |= {variant["ModelName"] for variant in content["ProductionVariants"]}
    unused = [item.name for item in api.models(text) if made_for(endpoint_name, item.name) and item.name not in used]
    for name in unused:
        api.delete_model(name)
    if removed := [*gone, *unused]:
        log.info("deleted what nobody goes back to: %s", ", ".join(removed))
    return removed
