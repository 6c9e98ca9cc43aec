"""A network over tables by PyTorch, saved as ONNX: neither torch nor a pickle is needed to predict.

* `network`: the network of several trials at once; one trial is the case of one.
* `feed`: examples on the device, or streamed to it.
* `updates`: the optimisers.
* `stack`: trials that are trained in lockstep, step by step.
* `training`: epochs, early stopping, checkpoints, what the session decides.
* `peers`: several processes for one training.
* `export`: the network as an ONNX graph.
"""

from __future__ import annotations

from trainer.families.base import PackableFamily
from trainer.families.pytorch.family import Pytorch

FAMILY: PackableFamily = Pytorch()
