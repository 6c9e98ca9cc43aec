"""Serves a saved model over HTTP by SageMaker's container contract: ``GET /ping`` and ``POST /invocations``."""
