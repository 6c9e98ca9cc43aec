"""What the serving code answers for rows, as JSON; runs in its environment: ``predict.py MODEL < instances``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from modelformat import Predictor
from serving import payloads
from serving.model import Model
from serving.predict import Answers


def main(directory: Path, instances: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask for all rows at once, and for each one alone, which takes the fast path."""
    predictor = Predictor.load(directory)
    model = Model(predictor, "1", predictor.digest, predictor.one_row())
    answers = Answers(model, 2**20)

    def ask(rows: list[dict[str, Any]]) -> Any:
        body = json.dumps({"instances": rows}).encode()
        return json.loads(answers.answer(payloads.JSON, payloads.JSON, body, fast=len(rows) == 1)[1])

    together = ask(instances)
    return {
        "digest": predictor.digest,
        "classes": together.get("classes"),
        "instances": instances,
        "predictions": together["predictions"],
        "alone": [ask([row])["predictions"][0] for row in instances],
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), json.load(sys.stdin))))
