"""The parameters of ``config/families/pytorch.yaml``, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mlplatform.config.base import Scalar


@dataclass(frozen=True)
class Params:
    """All parameters, as the catalogue has checked them."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    batch_size: int
    epochs: int
    patience: int
    layers: int
    width: int
    dropout: float
    embedding_width: int
    precision: str

    @classmethod
    def of(cls, params: Mapping[str, Scalar]) -> Self:
        """Take them from a mapping with exactly these keys."""
        chosen: dict[str, Any] = dict(params)
        return cls(**chosen)
