"""Reference tables: what they hold, where they go, and when they are stale."""

from pathlib import Path

import pytest

from cloud.errors import CloudError
from cloud.module_docs import BEGIN, END, documented_modules, main, read_module, tables

VARIABLES = """
variable "pool" {
  description = "Sizes of the \\"pool\\"."
  type = object({
    sizes = list(string)
    kind  = optional(string, "SPOT") # cheaper
  })
  default = { sizes = ["a", "b"], kind = null }

  validation {
    condition     = length(var.pool.sizes) > 0 || true
    error_message = "pool.sizes must not be empty: name a size."
  }
}

variable "name" {
  description = "One of a|b."
  type        = string
}

variable "expires_days" {
  description = "Days."
  type        = number
  default     = null
}
"""
REST = """
data "aws_partition" "current" {}

resource "aws_s3_bucket" "this" {
  for_each = toset(["x"])
  bucket   = "${var.name}-${each.key}"
}

resource "aws_kms_key" "this" {}

output "bucket" {
  description = "Its name."
  value       = { for key, bucket in aws_s3_bucket.this : key => bucket.id }
}
"""
README = f"# thing\n\nWhy it is so.\n\n{BEGIN}\nold\n{END}\n\nThe end.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    module = tmp_path / "terraform" / "modules" / "thing"
    module.mkdir(parents=True)
    (module / "variables.tf").write_text(VARIABLES)
    (module / "main.tf").write_text(REST)
    (module / "README.md").write_text(README)
    return tmp_path


def readme(root: Path) -> Path:
    return root / "terraform" / "modules" / "thing" / "README.md"


def test_a_module_is_read_whole(root: Path) -> None:
    module = read_module(root / "terraform" / "modules" / "thing")

    assert [variable.name for variable in module.variables] == ["expires_days", "name", "pool"]
    assert [variable.validations for variable in module.variables] == [0, 0, 1]
    assert [variable.default for variable in module.variables] == ["null", None, '{ sizes = ["a", "b"], kind = null }']
    assert module.variables[2].description == 'Sizes of the "pool".'
    assert module.variables[2].type == 'object({sizes = list(string), kind = optional(string, "SPOT")})'
    assert module.outputs[0].description == "Its name."
    assert module.resources == ("aws_kms_key.this", "aws_s3_bucket.this")
    assert module.modules == ()
    assert module.providers == ()


def test_tables_hold_inputs_outputs_and_resources(root: Path) -> None:
    written = tables(read_module(root / "terraform" / "modules" / "thing"))

    assert "| `name` | One of a\\|b. | `string` |  | yes |" in written
    assert "| `expires_days` | Days. | `number` | `null` | no |" in written
    assert "| `bucket` | Its name. |" in written
    assert "| `aws_s3_bucket.this` |" in written
    assert "### Modules" not in written
    assert "aws_partition" not in written


def test_only_what_stands_between_the_markers_changes(root: Path) -> None:
    assert main([], root) == 0

    text = readme(root).read_text()
    assert text.startswith(f"# thing\n\nWhy it is so.\n\n{BEGIN}\n### Inputs\n")
    assert text.endswith(f"{END}\n\nThe end.\n")
    assert "old" not in text


def test_writing_twice_changes_nothing(root: Path) -> None:
    main([], root)
    once = readme(root).read_text()

    assert main([], root) == 0
    assert main(["--check"], root) == 0
    assert readme(root).read_text() == once


def test_check_names_the_stale_file_and_leaves_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], root) == 1

    assert "terraform/modules/thing/README.md: is stale: run `make docs`" in capsys.readouterr().out
    assert readme(root).read_text() == README


@pytest.mark.parametrize("text", ["# thing\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n{END}\n"])
def test_a_readme_without_markers_is_refused(root: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    readme(root).write_text(text)

    assert main([], root) == 1
    assert "README.md: must have the lines" in capsys.readouterr().err


def test_a_module_without_readme_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme(root).unlink()

    assert main(["--check"], root) == 1
    assert "README.md: is missing" in capsys.readouterr().err


def test_a_broken_file_is_named(root: Path) -> None:
    (root / "terraform" / "modules" / "thing" / "main.tf").write_text('resource "x" {')

    with pytest.raises(CloudError, match=r"main\.tf: cannot be read as Terraform"):
        read_module(root / "terraform" / "modules" / "thing")


def test_folders_without_code_are_no_modules(root: Path) -> None:
    (root / "terraform" / "modules" / "empty").mkdir()
    bootstrap = root / "terraform" / "bootstrap"
    bootstrap.mkdir()
    (bootstrap / "main.tf").write_text("")

    assert [folder.name for folder in documented_modules(root)] == ["thing", "bootstrap"]
