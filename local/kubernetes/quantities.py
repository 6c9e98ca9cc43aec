"""Resource quantities: `500m`, `2Gi`, `1e3`."""

from __future__ import annotations

import re
from decimal import ROUND_UP, Context, Decimal

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)")
_MOST = Decimal(2**63 - 1)
_LEAST = Decimal("1e-9")
_CONTEXT = Context(prec=40)
FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def parse(text: str | int | float) -> Decimal:
    """Return the number a quantity stands for; ValueError when it is not one."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(FORMAT)
    number, exponent, suffix = match.groups()
    amount = Decimal(number + exponent) if exponent else Decimal(number)
    if not amount:
        return Decimal(0)
    # What is too large or too small to be kept is the largest, or the smallest, there is.
    if amount.adjusted() > 18:
        return _MOST.copy_sign(amount)
    if amount.adjusted() < -18:
        return _LEAST.copy_sign(amount)
    amount = min(abs(amount * _SUFFIXES[suffix or ""]), _MOST).copy_sign(amount)
    return amount.quantize(_LEAST, ROUND_UP, _CONTEXT)


def canonical(text: str | int | float) -> str:
    """Return a quantity as the API writes it, in powers of two if it was given so."""
    return show(parse(text), binary=is_binary(text))


def is_binary(text: str | int | float) -> bool:
    """Tell whether a quantity is given in powers of two."""
    return str(text).endswith("i")


def show(amount: Decimal, *, binary: bool = False) -> str:
    """Return an amount as the API writes it: with the largest suffix that leaves a whole number."""
    binary = binary and abs(amount) >= 1024 and amount == amount.to_integral_value()
    suffixes = [name for name in _SUFFIXES if name == "" or name.endswith("i") == binary]
    for name in sorted(suffixes, key=_SUFFIXES.__getitem__, reverse=True):
        number = amount / _SUFFIXES[name]
        if amount and number == number.to_integral_value():
            return f"{int(number)}{name}"
    return "0"
