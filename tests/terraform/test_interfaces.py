"""What each module asks for and gives: described, typed and documented. What it refuses: test_refusals.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud.module_docs import Module, documented_modules, main, read_hcl, read_module
from tests.terraform.folders import ALL, ENVIRONMENTS, MODULES, ROOT, ROOTS, name_of


@pytest.fixture(scope="module")
def declared() -> dict[Path, Module]:
    return {folder: read_module(folder) for folder in ALL}


@pytest.mark.parametrize("folder", ALL, ids=name_of)
def test_every_variable_is_described_and_typed(declared: dict[Path, Module], folder: Path) -> None:
    wrong = [
        variable.name
        for variable in declared[folder].variables
        if not (variable.description or "").endswith(".") or "\n" in (variable.description or "") or not variable.type
    ]

    assert not wrong, "each needs a type, and a description of one line that ends in a period"


@pytest.mark.parametrize("folder", ALL, ids=name_of)
def test_every_output_is_described(declared: dict[Path, Module], folder: Path) -> None:
    assert [output.name for output in declared[folder].outputs if not (output.description or "").endswith(".")] == []


@pytest.mark.parametrize("folder", ALL, ids=name_of)
def test_variables_are_in_alphabetical_order(folder: Path) -> None:
    written = [name for block in read_hcl(folder / "variables.tf").get("variable", ()) for name in block]

    assert written == sorted(written)


@pytest.mark.parametrize("folder", MODULES, ids=name_of)
def test_no_module_configures_a_provider(declared: dict[Path, Module], folder: Path) -> None:
    assert declared[folder].providers == ()


@pytest.mark.parametrize("folder", ALL, ids=name_of)
def test_versions_are_pinned_alike(folder: Path) -> None:
    (settings,) = read_hcl(folder / "versions.tf")["terraform"]
    (providers,) = settings["required_providers"]

    assert settings["required_version"] == '">= 1.11, < 2.0"'
    assert set(providers) == {"aws"}
    assert providers["aws"] == {"source": '"hashicorp/aws"', "version": '"~> 5.100"'}


@pytest.mark.parametrize("folder", documented_modules(), ids=name_of)
def test_every_module_has_a_readme_of_its_own_words(folder: Path) -> None:
    written = (folder / "README.md").read_text(encoding="utf-8").split("<!-- BEGIN TERRAFORM -->")[0]

    assert len(written.split()) > 60, "say what it makes, why it is so, and show an example"


def test_reference_tables_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr()


# --- The three environments are one root with three sets of values ----------------------------------------------------


def test_environments_are_composed_of_the_same_files() -> None:
    names = {folder.name: sorted(path.name for path in folder.glob("*.tf")) for folder in ENVIRONMENTS}

    assert len({tuple(files) for files in names.values()}) == 1, names


@pytest.mark.parametrize("name", ["outputs.tf", "variables.tf", "versions.tf"])
def test_environments_differ_only_in_values(name: str) -> None:
    """Everything but the one call of the platform is the same text, once the environment's name is taken out."""
    texts = {re.sub(rf"\b{folder.name}\b", "ENV", (folder / name).read_text()) for folder in ENVIRONMENTS}

    assert len(texts) == 1


def test_environments_only_call_the_platform(declared: dict[Path, Module]) -> None:
    for folder in ENVIRONMENTS:
        assert declared[folder].modules == ("platform",)
        assert declared[folder].resources == ()


def test_environments_give_the_platform_the_same_arguments() -> None:
    arguments = {
        folder.name: sorted(key for block in read_hcl(folder / "main.tf")["module"] for key in block['"platform"'])
        for folder in ENVIRONMENTS
    }

    assert len({tuple(names) for names in arguments.values()}) == 1, arguments


@pytest.mark.parametrize("folder", ROOTS, ids=name_of)
def test_no_path_of_a_machine_is_in_a_root(folder: Path) -> None:
    texts = {path.name: path.read_text() for path in folder.glob("*.tf")}

    assert [name for name, text in texts.items() if str(ROOT) in text or "/opt/" in text] == []


def test_the_platform_hands_every_choice_about_a_node_on() -> None:
    """What it leaves out has the module's default for ever, whatever an environment's instance types are."""
    module = read_module(ROOT / "terraform" / "modules" / "cluster")
    blocks = read_hcl(ROOT / "terraform" / "modules" / "platform" / "main.tf")["module"]
    call = next(call for block in blocks for name, call in block.items() if name.strip('"') == "cluster")
    for variable in module.variables:
        if not variable.name.endswith("_node_group"):
            continue
        choices = set(re.findall(r"(\w+)\s*=\s*optional\(", variable.type or ""))
        handed_on = set(re.findall(r"(\w+)\s*[=:]", str(call[variable.name]).replace("'", "")))
        assert choices, variable.name
        assert choices <= handed_on, f"{variable.name}: {choices - handed_on}"
