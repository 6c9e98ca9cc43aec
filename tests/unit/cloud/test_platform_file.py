"""The file that everything is named after, and what is refused in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.errors import CloudError
from cloud.platform_file import FILE, platform


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "the file: "),
        (b"- a\n", "the file: "),
        (b"name: acme-ml\n", "region_in_names: Field required"),
        (b'name: acme-ml\nregion_in_names: "false"\n', "region_in_names: Input should be a valid boolean"),
        (b"name: Acme-ML\nregion_in_names: true\n", "name: String should match"),
        (b"name: acme\nregion_in_names: true\n", "name: String should match"),
        (b"name: acme-ml-platform\nregion_in_names: true\n", "name: String should"),
        (b"name: acme-ml\nregion_in_names: true\nregion: eu-west-1\n", "region: Extra inputs"),
        (b"name: [\n", "cannot be read"),
        (b"name: \xe4\n", "cannot be read"),
    ],
)
def test_what_it_should_not_say_is_told(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes(text)
    with pytest.raises(CloudError) as raised:
        platform(tmp_path)
    assert FILE in str(raised.value)
    assert told in str(raised.value)


def test_without_it_nothing_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="cannot be read"):
        platform(tmp_path)
