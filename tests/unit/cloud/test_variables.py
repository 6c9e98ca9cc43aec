"""Files of values beside a Terraform root: what is no such file is told in one message."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.errors import CloudError
from cloud.variables import read


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("terraform.tfvars", 'region = "eu-west-1" # über\n'.encode("latin-1"), "is not Terraform code in UTF-8"),
        ("terraform.tfvars", b"region = = 1\n", "is not Terraform code"),
        ("terraform.tfvars.json", b"[]", "is JSON, but not values by name"),
        ("terraform.tfvars.json", b"{", "is not JSON"),
    ],
)
def test_what_is_no_file_of_values_is_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CloudError) as raised:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert told in str(raised.value)


def test_a_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="cannot be read: Is a directory"):
        read(tmp_path)
