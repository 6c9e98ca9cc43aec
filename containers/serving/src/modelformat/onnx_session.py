"""Opens ONNX models, with ONNX Runtime kept from taking more than it is given."""

from __future__ import annotations

from typing import Any


def open_session(model: str | bytes, threads: int) -> Any:
    """Return ONNX Runtime's session of a model.

    Args:
        model: path of a file, or its content.
        threads: how many threads one prediction may use; with one, none is started.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Idle threads that spin would take the cores from everything else in the container.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
