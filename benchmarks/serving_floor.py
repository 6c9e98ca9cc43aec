"""The least a server can do: a raw ASGI application that parses, predicts and answers, and checks nothing.

`BENCH_MODEL` is the model's file: `.onnx` for ONNX Runtime, anything else for XGBoost. Rows come as to the others, but
with numbers for categories and in the model's order, which is taken on trust. Run by uvicorn with uvloop and httptools.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import orjson


def _open(path: str) -> Any:
    if path.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed, output = session.get_inputs()[0].name, [session.get_outputs()[-1].name]
        return lambda matrix: session.run(output, {feed: matrix})[0][:, -1]
    import xgboost

    booster = xgboost.Booster(model_file=path)
    booster.set_param({"nthread": 1})
    return lambda matrix: booster.inplace_predict(matrix, validate_features=False)


_predict = _open(os.environ["BENCH_MODEL"])


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer a prediction, whatever is asked."""
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    ((shape, content),) = orjson.loads(body).items()
    rows = content["data"] if shape == "dataframe_split" else [list(row.values()) for row in content]
    answer = orjson.dumps({"predictions": _predict(np.array(rows, dtype=np.float32)).tolist()})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
