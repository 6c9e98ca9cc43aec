"""The reference tables in the READMEs of the Terraform modules, written from the code.

    python -m cloud.module_docs            # write them
    python -m cloud.module_docs --check    # only say which are stale

Each README keeps its tables between two marker lines; what stands around them is written by people.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

from cloud.errors import CloudError

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- BEGIN TERRAFORM -->"
END = "<!-- END TERRAFORM -->"
_OPTIONS = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False)
_NO_DEFAULT = object()


@dataclass(frozen=True)
class Variable:
    """An input of a module."""

    name: str
    description: str | None
    type: str | None
    default: str | None
    """The default as HCL; None where there is none and the caller has to give a value."""
    validations: int
    """How many validation blocks it has."""


@dataclass(frozen=True)
class Output:
    """An output of a module."""

    name: str
    description: str | None


@dataclass(frozen=True)
class Module:
    """What the `.tf` files of one folder declare."""

    folder: Path
    variables: tuple[Variable, ...]
    outputs: tuple[Output, ...]
    resources: tuple[str, ...]
    """Addresses of its managed resources, such as `aws_s3_bucket.this`."""
    modules: tuple[str, ...]
    """Names of the modules it calls."""
    providers: tuple[str, ...]
    """Names of the providers it configures."""


def read_hcl(path: Path) -> dict[str, Any]:
    """Parse a file of Terraform's language.

    Raises:
        CloudError: it is not valid.
    """
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except Exception as error:  # the parser's errors share no base class
        raise CloudError(f"{path}: cannot be read as Terraform: {error}") from error


@functools.cache
def _parse(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = hcl2.loads(text, serialization_options=_OPTIONS)
    return parsed


def read_module(folder: Path) -> Module:
    """Read the declarations of a module or root.

    Raises:
        CloudError: a file is not valid.
    """
    files = [read_hcl(path) for path in sorted(folder.glob("*.tf"))]

    def blocks(kind: str) -> list[tuple[str, Any]]:
        found = [
            (unquote(name), body) for file in files for block in file.get(kind, ()) for name, body in block.items()
        ]
        return sorted(found, key=lambda entry: entry[0])

    return Module(
        folder=folder,
        variables=tuple(_variable(name, body) for name, body in blocks("variable")),
        outputs=tuple(Output(name, _text(body.get("description"))) for name, body in blocks("output")),
        resources=tuple(sorted(f"{kind}.{unquote(name)}" for kind, body in blocks("resource") for name in body)),
        modules=tuple(name for name, _ in blocks("module")),
        providers=tuple(name for name, _ in blocks("provider")),
    )


def documented_modules(root: Path = ROOT) -> list[Path]:
    """Return the folders whose README has tables: every module, and the bootstrap root."""
    folders = [*sorted((root / "terraform" / "modules").glob("*")), root / "terraform" / "bootstrap"]
    return [folder for folder in folders if any(folder.glob("*.tf"))]


def tables(module: Module) -> str:
    """Return the reference tables of a module as Markdown, ending in a newline."""
    inputs: list[Sequence[str]] = [
        (
            f"`{variable.name}`",
            variable.description or "",
            _code(variable.type or "any"),
            "" if variable.default is None else _code(variable.default),
            "yes" if variable.default is None else "no",
        )
        for variable in module.variables
    ]
    outputs: list[Sequence[str]] = [(f"`{output.name}`", output.description or "") for output in module.outputs]
    parts: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = [
        ("Inputs", ("Name", "Description", "Type", "Default", "Required"), inputs),
        ("Outputs", ("Name", "Description"), outputs),
        ("Modules", ("Name",), [(f"`{name}`",) for name in module.modules]),
        ("Resources", ("Address",), [(f"`{address}`",) for address in module.resources]),
    ]
    return "\n".join(f"### {title}\n\n{_table(head, rows)}" for title, head, rows in parts if rows)


def render(readme: Path, module: Module) -> str:
    """Return the README's text with its tables brought up to date.

    Raises:
        CloudError: the README or one of its markers is missing.
    """
    if not readme.is_file():
        raise CloudError(
            f"{readme}: is missing: write what the module makes and why, then the two lines {BEGIN}, {END}"
        )
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise CloudError(f"{readme}: must have the lines {BEGIN} and {END} once each, in this order")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    return f"{head}{BEGIN}\n{tables(module)}{END}{tail}"


def update(folders: Iterable[Path], *, write: bool) -> list[Path]:
    """Return the READMEs whose tables are stale, after writing them when `write` is set.

    Raises:
        CloudError: a module cannot be read, or a README is missing or has no markers.
    """
    stale = []
    for folder in folders:
        readme = folder / "README.md"
        text = render(readme, read_module(folder))
        if text != readme.read_text(encoding="utf-8"):
            stale.append(readme)
            if write:
                readme.write_text(text, encoding="utf-8")
    return stale


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cloud.module_docs", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 naming the stale files")
    check = parser.parse_args(arguments).check
    try:
        stale = update(documented_modules(root), write=not check)
    except CloudError as error:
        print(f"module_docs: error: {error}", file=sys.stderr)
        return 1
    for readme in stale:
        print(f"{readme.relative_to(root)}: {'is stale: run `make docs`' if check else 'written'}")
    return 1 if check and stale else 0


def unquote(text: str) -> str:
    """Return a string literal of the parser without its quotes."""
    if len(text) >= 2 and text.startswith('"') and text.endswith('"'):
        return text[1:-1].replace('\\"', '"')
    return text


def literal(value: Any) -> str:
    """Return a parsed value as HCL on one line."""
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        return value[2:-1] if value.startswith("${") and value.endswith("}") else value
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    if not value:
        return "{}"
    return f"{{ {', '.join(f'{key} = {literal(item)}' for key, item in value.items())} }}"


def _variable(name: str, body: dict[str, Any]) -> Variable:
    default = body.get("default", _NO_DEFAULT)
    kind = body.get("type")
    return Variable(
        name=name,
        description=_text(body.get("description")),
        type=None if kind is None else literal(kind),
        default=None if default is _NO_DEFAULT else literal(default),
        validations=len(body.get("validation", ())),
    )


def _text(value: Any) -> str | None:
    return None if value is None else unquote(str(value))


def _code(text: str) -> str:
    return f"`{text}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
