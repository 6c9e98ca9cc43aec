"""``manifest.json``: which family a saved model is of, and how its inputs are encoded.

A saved model outlives the release that wrote it. Within one format version a reader ignores fields that it does not
know; so what changes how the model is run must raise the version, which an older reader then refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import from_json

MANIFEST = "manifest.json"
FORMAT_VERSION = 2


class ModelFormatError(ValueError):
    """A saved model is missing, incomplete or not of this format; the message names the file and the reason."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NumberFeature(_Strict):
    """A numeric input, encoded as ``(x - mean) / scale``."""

    kind: Literal["number"] = "number"
    name: str
    impute: FiniteFloat | None = Field(default=None, description="Replaces a missing value; None leaves it NaN.")
    mean: FiniteFloat = 0.0
    scale: Annotated[FiniteFloat, Field(gt=0)] = 1.0


class CategoryFeature(_Strict):
    """A textual input, encoded as its position in ``categories`` or as one column per category."""

    kind: Literal["category"] = "category"
    name: str
    categories: list[str] = Field(description="The values seen in training, sorted.")
    encoding: Literal["code", "one-hot"] = "code"

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        if self.categories != sorted(set(self.categories)):
            raise ValueError(f"categories of {self.name!r} must be sorted and distinct")
        return self


Feature = Annotated[NumberFeature | CategoryFeature, Field(discriminator="kind")]


class Manifest(_Strict):
    """Description of a saved model. ``features`` are in the order the model was trained on."""

    format_version: Literal[2] = 2
    family: str = Field(description="Who trained it; says nothing about how it is run.")
    engine: Literal["xgboost", "lightgbm", "onnx"] = Field(description="What runs `model_file`.")
    task: Literal["binary", "multiclass", "regression"]
    target: str
    classes: list[str] | None = Field(default=None, description="Names of the classes in the order of a prediction.")
    features: Annotated[list[Feature], Field(min_length=1)]
    model_file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="A file beside this one.")]
    metadata: dict[str, str] = {}

    @model_validator(mode="after")
    def _classes_where_there_are_any(self) -> Self:
        if (self.classes is None) != (self.task == "regression"):
            raise ValueError("classes: needed for a classification, not allowed for a regression")
        if self.classes is not None and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):
            raise ValueError("classes: at least two are needed, each once")
        if self.task == "binary" and self.classes is not None and len(self.classes) != 2:
            raise ValueError("classes: a binary task has two, the second is the positive one")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [feature.name for feature in self.features]
        if len(names) != len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"feature {twice!r} is there twice")
        return self


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into a directory, the same bytes for the same manifest."""
    content = manifest.model_dump_json(indent=2) + "\n"
    (directory / MANIFEST).write_text(content, encoding="utf-8")


def read_manifest(directory: Path) -> Manifest:
    """Read ``manifest.json`` of a saved model.

    Raises:
        ModelFormatError: it is missing, of another format version or not valid, or the file it names is missing.
    """
    path = directory / MANIFEST
    try:
        content = path.read_bytes()
        _check_version(path, content)
        manifest = Manifest.model_validate_json(content, extra="ignore")
    except FileNotFoundError:
        raise ModelFormatError(f"{path}: no such file; a saved model needs one") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelFormatError(f"{path}: {key + ': ' if key else ''}{first['msg']}") from None
    if not (directory / manifest.model_file).is_file():
        raise ModelFormatError(f"{path}: model_file: {manifest.model_file!r} is not in {directory}")
    return manifest


def _check_version(path: Path, content: bytes) -> None:
    """Tell a model of another format version, whose fields need not be those of this one."""
    try:
        found: Any = from_json(content)
    except ValueError:
        return  # no manifest at all, which the validation tells
    version = found.get("format_version") if isinstance(found, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version == FORMAT_VERSION:
        return
    if version > FORMAT_VERSION:
        raise ModelFormatError(
            f"{path}: the images are older than the model, which is in format version {version} (they read "
            f"{FORMAT_VERSION}): run `make images`"
        )
    raise ModelFormatError(
        f"{path}: the model is in format version {version}, which is not read any more (only {FORMAT_VERSION}): train "
        "it again"
    )
