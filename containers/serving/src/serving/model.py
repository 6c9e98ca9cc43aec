"""The model of this process: none yet, or one that is ready."""

from __future__ import annotations

from dataclasses import dataclass

from modelformat import ModelFormatError, Predictor
from modelformat.one_row import OneRow
from serving.settings import Settings


@dataclass(frozen=True)
class Model:
    """A model that is ready, and who it is."""

    predictor: Predictor
    version: str | None
    digest: str
    one_row: OneRow | None
    """The fast path of single rows, for one thread; found before workers are forked, so that they share it too."""

    @property
    def identity(self) -> dict[str, str | None]:
        """What every answer says about the model it comes from."""
        return {"version": self.version, "digest": self.digest}

    @property
    def classes(self) -> list[str] | None:
        """Names of the numbers of one prediction, None where it is a single number."""
        manifest = self.predictor.manifest
        return manifest.classes if manifest.task == "multiclass" else None


def load(settings: Settings) -> Model | None:
    """Load the model, or return None when there is none: the endpoint waits for its first deployment.

    Raises:
        ModelFormatError: there is something, but not a usable model, or not the one this process was made for.
    """
    directory = settings.model_directory
    if not directory.is_dir() or not any(directory.iterdir()):
        if settings.model_version or settings.model_digest:
            raise ModelFormatError(f"{directory}: empty, but version {settings.model_version} should be here")
        return None
    predictor = Predictor.load(directory, threads=settings.threads)
    if settings.model_digest and settings.model_digest != predictor.digest:
        raise ModelFormatError(
            f"{directory}: not the files of version {settings.model_version}: their digest is {predictor.digest}, "
            f"MODEL_DIGEST says {settings.model_digest}"
        )
    return Model(predictor, settings.model_version, predictor.digest, predictor.one_row())
