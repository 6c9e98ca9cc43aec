"""Pages for people: one HTML file each, complete in itself, from the templates in this folder.

A page extends ``base.html.j2``, which holds the common look, and may use the macros of ``parts.html.j2``. What comes
from data is escaped; a name that a template misses is an error, not a gap in the page.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

NOTHING = "–"
"""Stands where there is no number."""
_MINUS = "−"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def render(template: str, **context: Any) -> str:
    """Fill a template of this folder in; the same context gives the same page.

    Args:
        template: file name, such as ``evaluation.html.j2``.
        context: what the template names.

    Raises:
        jinja2.UndefinedError: the template names something that is not in the context.
        jinja2.TemplateNotFound: there is no such template.
    """
    return _environment().get_template(template).render(**context)


def count(value: float) -> str:
    """Whole number with thousands set apart."""
    return f"{value:,.0f}"


def decimal(value: float | None, digits: int = 4) -> str:
    """Number with four digits that count; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}" if abs(value) < 10 else f"{value:,.{_decimals(value, digits)}f}"
    return text.replace("-", _MINUS)


def signed(value: float | None, digits: int = 4) -> str:
    """Like `decimal`, with its sign."""
    text = decimal(value, digits)
    return f"+{text}" if value is not None and value > 0 and text != NOTHING else text


def percent(share: float | None, digits: int = 1) -> str:
    """Share of 1, in percent."""
    if share is None or not math.isfinite(share):
        return NOTHING
    return f"{share * 100:.{digits}f} %".replace("-", _MINUS)


def size(value: float) -> str:
    """Bytes in a unit that suits them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"


def moment(value: datetime | None) -> str:
    """Date and time to the minute, with the zone it is in where it says so."""
    if value is None:
        return NOTHING
    return f"{value:%Y-%m-%d %H:%M} {value:%Z}".strip()


def label(value: object, longest: int = 40) -> str:
    """Text from data, safe to show in one line: no control or direction characters, shortened in the middle."""
    text = " ".join(_CONTROL.sub(" ", str(value)).split()) or "(empty)"
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 3
    return f"{text[:head]}…{text[-(longest - 1 - head) :]}"


def _decimals(value: float, digits: int) -> int:
    return max(0, digits - int(math.log10(abs(value))))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count_of": count,
        "decimal": decimal,
        "signed": signed,
        "percent": percent,
        "size": size,
        "moment": moment,
        "label": label,
    }
    return environment
