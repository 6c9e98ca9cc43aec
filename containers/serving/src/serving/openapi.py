"""What the API says of itself, made from the model that is loaded: its features, their types, its classes."""

from __future__ import annotations

import html
import json
from typing import Any

from modelformat import NumberFeature
from serving import payloads
from serving.model import Model

SHOWN = 20
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.25rem .6rem;text-align:left;vertical-align:top}
pre{background:#f4f4f4;padding:.8rem;overflow-x:auto}"""


def document(model: Model | None) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description."""
    errors = {
        str(status): {
            "description": text,
            "content": {payloads.JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, text in (
            (400, "The body is not what the model takes; the message names row (from 0) and column."),
            (406, "No type of answer that is accepted."),
            (413, "Too large, as it is or decoded."),
            (415, "Not a type of body that is supported."),
            (503, "Too many requests in progress, or no model yet; Retry-After says when to try again."),
        )
    }
    errors["503"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": _title(model),
            "version": (model.version if model else None) or "unknown",
            "description": "Predictions by SageMaker's container contract.",
        },
        "paths": {
            "/ping": {"get": {"summary": "Whether it is ready", "responses": {"200": {"description": "It is."}}}},
            "/invocations": {
                "post": {
                    "summary": "Predict rows",
                    "requestBody": {"required": True, "content": _bodies(model)},
                    "responses": {
                        "200": {"description": "A prediction per row, in their order.", "content": _answers(model)}
                    }
                    | errors,
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Numbers for Prometheus",
                    "responses": {"200": {"description": "All workers'.", "content": {"text/plain": {}}}},
                }
            },
        },
        "components": {"schemas": _schemas(model)},
    }


def _title(model: Model | None) -> str:
    if model is None:
        return "No model deployed yet"
    manifest = model.predictor.manifest
    return f"{manifest.target} ({manifest.task}, {manifest.family})"


def _row(model: Model | None) -> dict[str, Any]:
    """Return an example of a row."""
    if model is None:
        return {}
    return {
        feature.name: feature.mean if isinstance(feature, NumberFeature) else next(iter(feature.categories), None)
        for feature in model.predictor.manifest.features
    }


def _schemas(model: Model | None) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for feature in model.predictor.manifest.features if model else []:
        if isinstance(feature, NumberFeature):
            properties[feature.name] = {"type": ["number", "null"], "description": "null is missing"}
        else:
            known = ", ".join(feature.categories[:SHOWN]) + (", …" if len(feature.categories) > SHOWN else "")
            text = f"{len(feature.categories)} categories are known: {known}. Any other counts as missing, like null."
            properties[feature.name] = {"type": ["string", "null"], "description": text}
    row = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    rows = {"type": "array", "items": {"$ref": "#/components/schemas/Row"}, "minItems": 1}
    table = {
        "type": "object",
        "required": ["columns", "data"],
        "additionalProperties": False,
        "properties": {
            "columns": {"type": "array", "items": {"enum": list(properties)} if properties else {"type": "string"}},
            "data": {"type": "array", "items": {"type": "array"}, "minItems": 1},
            "index": {"type": "array"},
        },
    }
    number: dict[str, Any] = {"type": "number"}
    if model and model.classes is not None:
        size = len(model.classes)
        number = {"type": "array", "items": {"type": "number"}, "minItems": size, "maxItems": size}
    answer: dict[str, Any] = {
        "predictions": {"type": "array", "items": number},
        "model": {
            "type": "object",
            "properties": {"version": {"type": ["string", "null"]}, "digest": {"type": "string"}},
        },
    }
    if model and model.classes is not None:
        answer["classes"] = {"type": "array", "items": {"type": "string"}, "const": model.classes}
    inputs = {
        "type": "object",
        "properties": {name: {"type": "array", "items": schema} for name, schema in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
    shapes = {
        "instances": rows,
        "dataframe_records": rows,
        "dataframe_split": table,
        "inputs": {"anyOf": [inputs, rows]},
    }
    bodies = [
        {"type": "object", "required": [name], "properties": {name: schema}, "additionalProperties": False}
        for name, schema in shapes.items()
    ]
    error = {"code": {"type": "string"}, "message": {"type": "string"}}
    return {
        "Row": row,
        "Body": {"oneOf": [*bodies, table]},
        "Answer": {"type": "object", "properties": answer, "required": list(answer)},
        "Error": {"type": "object", "properties": {"error": {"type": "object", "properties": error}}},
    }


def _bodies(model: Model | None) -> dict[str, Any]:
    row = _row(model)
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        payloads.JSON: {
            "schema": {"$ref": "#/components/schemas/Body"},
            "examples": {
                "instances": {"value": {"instances": [row]}},
                "split": {"value": {"columns": list(row), "data": [list(row.values())]}},
                "inputs": {"value": {"inputs": {name: [value] for name, value in row.items()}}},
            },
        },
        payloads.JSON_LINES: {"schema": {"type": "string"}, "example": json.dumps(row, ensure_ascii=False) + "\n"},
        payloads.CSV: {"schema": {"type": "string"}, "example": _csv(row)},
        payloads.PARQUET: binary,
        payloads.ARROW: binary,
    }


def _answers(model: Model | None) -> dict[str, Any]:
    return {
        payloads.JSON: {"schema": {"$ref": "#/components/schemas/Answer"}},
        payloads.CSV: {
            "schema": {"type": "string"},
            "example": "0.2,0.5,0.3\n" if model and model.classes else "0.37\n",
        },
    }


def _csv(row: dict[str, Any]) -> str:
    def field(value: Any) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text

    return ",".join(map(field, row)) + "\n" + ",".join(map(field, row.values())) + "\n"


def page(model: Model | None) -> str:
    """Return a page for people that needs nothing from elsewhere, not even a script."""
    lines = []
    for feature in model.predictor.manifest.features if model else []:
        if isinstance(feature, NumberFeature):
            kind, notes = "number", "" if feature.impute is None else f"missing counts as {feature.impute:g}"
        else:
            known = ", ".join(feature.categories[:SHOWN]) + (", …" if len(feature.categories) > SHOWN else "")
            kind, notes = "text", f"{len(feature.categories)} known: {known}"
        lines.append(f"<tr><td>{html.escape(feature.name)}</td><td>{kind}</td><td>{html.escape(notes)}</td></tr>")
    title, row = html.escape(_title(model)), _row(model)
    body = html.escape(json.dumps({"instances": [row]}, ensure_ascii=False, indent=1))
    answer = "the number, in the target's unit"
    if model and (classes := model.predictor.manifest.classes):
        answer = f"the probability of {classes[1]!r}" if model.classes is None else f"the probabilities of {classes}"
    kinds = "".join(
        f"<li><code>{kind}</code></li>"
        for kind in (payloads.JSON, payloads.JSON_LINES, payloads.CSV, payloads.PARQUET, payloads.ARROW)
    )
    identity = html.escape(f"version {model.version or 'unknown'}, digest {model.digest}" if model else "")
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>
<h1>{title}</h1><p>{identity}</p>
<h2>POST /invocations</h2><p>Answers, for every row, {html.escape(answer)}. Bodies:</p><ul>{kinds}</ul>
<pre>{body}</pre>
<p>CSV has a header line:</p><pre>{html.escape(_csv(row))}</pre>
<h2>Features</h2><p>Every one is needed, in any order; null (in CSV: nothing) is missing, and so is a text never seen
in training.</p><table><tr><th>name</th><th>type</th><th></th></tr>{"".join(lines)}</table>
<h2>More</h2><p><code>/openapi.json</code>, <code>/metrics</code>, <code>/ping</code></p></html>
"""
