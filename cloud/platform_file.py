"""What everything of this platform in AWS is named after: `terraform/platform.yaml`, which Terraform reads as well."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud.errors import CloudError
from cloud.terraform import ROOT

FILE = "terraform/platform.yaml"


class Platform(BaseModel):
    """The file's content; terraform/modules/names says why a name looks like this."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*-[a-z0-9]+$", max_length=14)]
    """What all names begin with, and the value of the tag Project: there may be other platforms in the account."""
    region_in_names: bool
    """Whether names that the account has once for all regions carry the region."""

    def state_bucket(self, account: str, region: str) -> str:
        """Return what terraform/bootstrap calls the bucket of the Terraform states."""
        return "-".join([self.name, "terraform-state", account, *([region] if self.region_in_names else [])])


@functools.cache
def platform(root: Path = ROOT) -> Platform:
    """Return this platform.

    Raises:
        CloudError: the file is missing, or does not say what it should.
    """
    try:
        return Platform.model_validate(yaml.safe_load((root / FILE).read_text(encoding="utf-8")))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise CloudError(f"{FILE} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise CloudError(
            f"{FILE}: {key}: {first['msg']}. It has two keys: name, two words of small letters and digits with one "
            "hyphen between them and 14 characters at most, such as acme-ml; and region_in_names, true or false"
        ) from None
