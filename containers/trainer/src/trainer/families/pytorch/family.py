"""Family ``pytorch``: from splits to fitted networks."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import modelformat
from mlplatform.config.base import Scalar
from mlplatform.errors import NonRetryableError
from modelformat import CategoryFeature
from trainer.data import Dataset
from trainer.families import base
from trainer.families.boosting import check_splits
from trainer.families.device import choose_device
from trainer.families.pytorch import peers as peering
from trainer.families.pytorch import training
from trainer.families.pytorch.feed import Feed, rows_of
from trainer.families.pytorch.fitted import FittedPytorch
from trainer.families.pytorch.network import Inputs, Shape, initial_weights
from trainer.families.pytorch.params import Params
from trainer.families.pytorch.peers import Peers
from trainer.families.pytorch.stack import Setting, most_together
from trainer.families.pytorch.state import State
from trainer.families.pytorch.training import Data, Run
from trainer.session import Session, Stopped

log = logging.getLogger(__name__)

LARGEST_NETWORK = 500_000_000
"""Weights; more do not fit the 2 GiB of an ONNX file."""

STATE_VERSION = 1
"""Of what a checkpoint means; one of another version is not gone on from."""


class Pytorch:
    """Family ``pytorch``.

    Args:
        resident: whether examples are kept on the device; None decides by its memory.
    """

    def __init__(self, resident: bool | None = None) -> None:
        self._resident = resident

    def fit(
        self,
        task: base.Task,
        train: Dataset,
        validation: Dataset,
        params: Mapping[str, Scalar],
        session: Session,
    ) -> FittedPytorch:
        """See `base.ModelFamily`; the same arguments give bitwise the same model on a CPU."""
        (outcome,) = self.fit_together(task, train, validation, [params], [session])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def fit_together(
        self,
        task: base.Task,
        train: Dataset,
        validation: Dataset,
        params: Sequence[Mapping[str, Scalar]],
        sessions: Sequence[Session],
    ) -> Sequence[FittedPytorch | Exception]:
        """See `base.PackableFamily`: trials of the same shape are one computation, other shapes follow.

        A trial's model is that of training it alone: bitwise on a CPU, but for the rounding of sums on a GPU.
        """
        check_splits(task, train, validation)
        torch.set_num_threads(task.threads)
        device = _device(task)
        peers = peering.join(device)
        features = base.standardised_features(task, encoding="code")
        inputs = _inputs(features)
        encoder = modelformat.Encoder(features)
        centre, scale = _target_scale(task, train)

        def feed(split: Dataset) -> Feed:
            rows = rows_of(inputs, encoder.encode(split.columns), _target(task, split, centre, scale))
            return Feed(rows, device, self._resident)

        data = Data(feed(train), feed(validation), validation.target, centre, scale)
        runs: list[Run | Exception] = []
        shapes: list[Shape] = []
        for given, session in zip(params, sessions, strict=True):
            chosen = Params.of(given)
            shapes.append(_shape(task, inputs, chosen))
            try:
                _check(chosen, shapes[-1], device, peers)
            except NonRetryableError as refused:
                runs.append(refused)
                continue
            runs.append(_begin(task, train, chosen, session, shapes[-1], features, peers))
        trainable = [run for run in runs if isinstance(run, Run)]
        with peers.following():
            try:
                for setting, group in _groups(task, runs, shapes, device, peers):
                    training.train(task, setting, data, group)
            except Stopped:
                if peers.leads:
                    training.save_ended(trainable)
                raise
        outcomes: list[FittedPytorch | Exception] = []
        for run, shape in zip(runs, shapes, strict=True):
            if isinstance(run, Exception):
                outcomes.append(run)
            elif run.failure is not None:
                outcomes.append(run.failure)
            else:
                outcomes.append(FittedPytorch(task, features, shape, run, (centre, scale), train.rows, data.validation))
        return outcomes


def _device(task: base.Task) -> torch.device:
    def obstacle() -> str | None:
        return None if torch.cuda.is_available() else "PyTorch finds no GPU it can use (driver too old, or none)"

    if choose_device("pytorch", task.device, obstacle) == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _inputs(features: base.Features) -> Inputs:
    categories = [(at, one) for at, one in enumerate(features) if isinstance(one, CategoryFeature)]
    return Inputs(
        numbers=tuple(at for at, one in enumerate(features) if not isinstance(one, CategoryFeature)),
        categories=tuple(at for at, _ in categories),
        sizes=tuple(len(one.categories) for _, one in categories),
    )


def _target_scale(task: base.Task, train: Dataset) -> tuple[float, float]:
    if task.kind != "regression":
        return 0.0, 1.0
    deviation = float(train.target.std())
    return float(train.target.mean()), deviation if deviation > 1e-12 else 1.0


def _target(task: base.Task, dataset: Dataset, centre: float, scale: float) -> NDArray[np.float32] | NDArray[np.int64]:
    if task.kind == "multiclass":
        return dataset.target.astype(np.int64)
    return ((dataset.target - centre) / scale).astype(np.float32)


def _shape(task: base.Task, inputs: Inputs, params: Params) -> Shape:
    outputs = len(task.classes or ()) if task.kind == "multiclass" else 1
    return Shape(inputs, params.layers, params.width, params.embedding_width, outputs)


def _check(params: Params, shape: Shape, device: torch.device, peers: Peers) -> None:
    if shape.layout.size > LARGEST_NETWORK:
        raise NonRetryableError(
            f"layers {params.layers}, width {params.width}: a network of {shape.layout.size:,} weights; a model file "
            f"holds {LARGEST_NETWORK:,}",
            kind="bad-config",
        )
    if params.batch_size < peers.size:
        raise NonRetryableError(
            f"batch_size {params.batch_size}: each of the {peers.size} processes needs a row of every batch",
            kind="bad-config",
        )
    if params.precision == "bf16" and device.type == "cuda" and not _computes_in_bf16(device):
        name = torch.cuda.get_device_name(device)
        raise NonRetryableError(f"precision bf16: {name} does not compute in it; use auto or fp32", kind="bad-config")


def _computes_in_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _precision(params: Params, device: torch.device) -> torch.dtype:
    wanted = params.precision == "bf16" or (params.precision == "auto" and _computes_in_bf16(device))
    return torch.bfloat16 if wanted else torch.float32


def _begin(
    task: base.Task,
    train: Dataset,
    params: Params,
    session: Session,
    shape: Shape,
    features: base.Features,
    peers: Peers,
) -> Run:
    """Return a run at the state that an earlier attempt has left, or at the beginning."""
    content = repr((STATE_VERSION, task.kind, task.metric, task.seed, train.rows, params, features, shape))
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    state = None
    if peers.leads:
        folder = session.resume()
        state = None if folder is None else State.load(folder, fingerprint)
        if state is not None:
            log.info("goes on from epoch %d", state.epoch)
    state = peers.share(state)
    if state is None:
        state = State.initial(initial_weights(shape, task.seed, _prior(task, train)))
    return Run(params, session, fingerprint, state)


def _prior(task: base.Task, train: Dataset) -> torch.Tensor:
    """Return the raw answer (outputs,) that fits the train split best without any feature."""
    if task.kind == "regression":
        return torch.zeros(1)
    shares = np.bincount(train.target.astype(np.intp), minlength=len(task.classes or ())) / train.rows
    logs = np.log(np.maximum(shares, 1e-6))
    return torch.tensor(logs if task.kind == "multiclass" else [logs[1] - logs[0]], dtype=torch.float32)


def _groups(
    task: base.Task, runs: Sequence[Run | Exception], shapes: Sequence[Shape], device: torch.device, peers: Peers
) -> list[tuple[Setting, list[Run]]]:
    """Sort runs into those that can be trained in lockstep."""
    groups: dict[tuple[Setting, int], list[Run]] = {}
    for run, shape in zip(runs, shapes, strict=True):
        if isinstance(run, Run):
            setting = Setting(
                task.kind, shape, run.params.batch_size, _precision(run.params, device), task.seed, device, peers
            )
            groups.setdefault((setting, run.state.epoch), []).append(run)
    found = []
    for (setting, _), group in groups.items():
        most = most_together(setting) or len(group)
        found += [(setting, group[start : start + most]) for start in range(0, len(group), most)]
    return found
