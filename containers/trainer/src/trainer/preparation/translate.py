"""DuckDB's SQL in Spark's words, or a refusal. Pure.

sqlglot knows both dialects' grammar, but not every difference in meaning: its `DAYOFWEEK` of Spark begins with 1 on
Sunday where DuckDB's begins with 0, for one. So only what is listed here is let through, and each of it is compared
between the engines in ``tests/containers/trainer_spark``. All else is refused by name: another result would not be
noticed before a model has learned from it.
"""

from __future__ import annotations

from sqlglot import ErrorLevel, exp, parse
from sqlglot.errors import SqlglotError

from mlplatform.errors import NonRetryableError

# Functions that both engines compute alike, as sqlglot's classes call them.
ALIKE = frozenset(
    {
        *("Abs", "And", "Atan2", "Avg", "Case", "Cast", "Cbrt", "Ceil", "Coalesce", "ConcatWs", "Cos", "Count"),
        *("CountIf", "DateFromParts", "DateTrunc", "Day", "DayOfMonth", "DayOfYear", "Dayname", "DenseRank"),
        *("Exists", "Exp", "Extract", "FirstValue", "Floor", "Greatest", "Grouping", "Hour", "If", "Lag"),
        *("LastValue", "Lead", "Least", "Length", "Ln", "Lower", "MD5", "Max", "Min", "Minute", "Month"),
        *("Monthname", "Not", "Nullif", "Or", "Pow", "Quarter", "Rank", "RowNumber", "Sign", "Sin", "Sqrt"),
        *("StartsWith", "StddevPop", "StddevSamp", "Substring", "Sum", "Tan", "TimestampFromParts"),
        *("TimestampTrunc", "TryCast", "Upper", "Variance", "VariancePop", "Year"),
    }
)
PARTS_OF_TIME = frozenset({"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "DOY"})
_TRUNCATED = frozenset({"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND"})
# Statements and clauses without the same meaning, or any, in Spark.
_UNKNOWN = (exp.Lateral, exp.Unnest, exp.Pivot, exp.TableSample, exp.Limit, exp.Offset, exp.Bracket)
_WHOLE = {exp.DataType.Type.TINYINT, exp.DataType.Type.SMALLINT, exp.DataType.Type.INT, exp.DataType.Type.BIGINT}
_TRUTHS = (exp.Predicate, exp.And, exp.Or, exp.Not, exp.Boolean)


def to_spark(statement: str, source: str) -> str:
    """Translate a query.

    Args:
        source: where it comes from, for the message.

    Raises:
        NonRetryableError: it has what Spark lacks, or does in another way.
    """
    return _translate(statement, source, trusted=False)


def own_to_spark(statement: str) -> str:
    """Translate a statement of `plan`, which is written so as to mean the same in both."""
    return _translate(statement, "plan", trusted=True)


def _translate(statement: str, source: str, trusted: bool) -> str:
    try:
        trees = [tree for tree in parse(statement, read="duckdb") if tree is not None]
        if len(trees) != 1:
            raise _refused(source, f"a text of {len(trees)} statements", "write one query")
        # From the leaves up, as what takes a node's place is not looked at again.
        holder = exp.Paren(this=trees[0])
        for node in reversed(list(trees[0].bfs())):
            if not trusted:
                _check(node, source)
            made = _translated(node, trusted)
            if made is not node:
                node.replace(made)
        return str(holder.this.sql(dialect="spark", unsupported_level=ErrorLevel.RAISE))
    except SqlglotError as error:
        raise _refused(source, " ".join(str(error).split())[:300], "write it in another way") from None


def _check(node: exp.Expr, source: str) -> None:
    """Let through what is known to mean the same."""
    if isinstance(node, _UNKNOWN):
        raise _refused(source, node.key, "write it in another way")
    if isinstance(node, exp.Distinct) and node.args.get("on"):
        raise _refused(source, "distinct on", "use row_number() in a subquery")
    if isinstance(node, exp.IntDiv) and not all(side.is_int for side in (node.this, node.expression) if side.is_number):
        raise _refused(source, "// by a fraction", "divide by a whole number")
    if isinstance(node, exp.Extract) and node.name.upper() not in PARTS_OF_TIME:
        raise _refused(source, f"extract {node.name.lower()}", f"take {', '.join(sorted(PARTS_OF_TIME)).lower()}")
    if isinstance(node, exp.TimestampTrunc | exp.DateTrunc) and node.args["unit"].name.upper() not in _TRUNCATED:
        raise _refused(source, f"date_trunc to {node.args['unit'].name.lower()}", "take a calendar unit")
    if isinstance(node, exp.Like | exp.ILike) and "\\" in node.expression.name:
        raise _refused(source, "a backslash in like", "write it in another way")
    if isinstance(node, exp.Anonymous):
        if str(node.this).lower() not in _RENAMED | {"grouping"}:
            raise _refused(source, f"function {str(node.this).lower()}", "use others")
    elif isinstance(node, exp.Func) and type(node).__name__ not in ALIKE:
        raise _refused(source, f"function {node.sql_name().lower()}", "use others")


def _refused(source: str, what: str, instead: str) -> NonRetryableError:
    return NonRetryableError(
        f"{source}: {what} is not known to mean the same in DuckDB and Spark; {instead}, or have DuckDB prepare the "
        "data (preparation.engine: duckdb)",
        kind="bad-config",
    )


def _translated(node: exp.Expr, trusted: bool) -> exp.Expr:
    """Return what stands for a node, whose parts are translated already."""
    if isinstance(node, exp.Anonymous):
        return _renamed(node)
    if isinstance(node, exp.Dayname):
        return _call("DATE_FORMAT", node.this, exp.Literal.string("EEEE"))
    if isinstance(node, exp.Monthname):
        return _call("DATE_FORMAT", node.this, exp.Literal.string("MMMM"))
    if isinstance(node, exp.TimestampFromParts):
        return _call("MAKE_TIMESTAMP_NTZ", *(node.args[key] for key in ("year", "month", "day", "hour", "min", "sec")))
    if isinstance(node, exp.Div):
        # DuckDB's is a floating-point one whatever the types, and by zero gives no error.
        return exp.Div(this=_double(node.this), expression=_not_zero(_double(node.expression)), typed=False, safe=False)
    if isinstance(node, exp.IntDiv | exp.Mod):
        return type(node)(this=node.this.copy(), expression=_not_zero(node.expression))
    if isinstance(node, exp.Cast) and not isinstance(node, exp.TryCast) and node.to.this in _WHOLE and not trusted:
        return _whole(node)
    return node


_RENAMED = frozenset({"epoch_us"})


def _renamed(node: exp.Anonymous) -> exp.Expr:
    """Translate a function that sqlglot passes on as it is."""
    if str(node.this).lower() == "epoch_us":
        return _call("UNIX_MICROS", exp.cast(node.expressions[0].copy(), exp.DataType.Type.TIMESTAMPTZ))
    return node


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def _double(node: exp.Expr) -> exp.Expr:
    return exp.cast(node.copy(), exp.DataType.Type.DOUBLE)


def _not_zero(node: exp.Expr) -> exp.Expr:
    """Divide by nothing instead of zero: DuckDB gives null, Spark an error."""
    inner = node.this if isinstance(node, exp.Cast) else node
    if isinstance(inner, exp.Literal) and float(inner.this) != 0:
        return node
    return exp.Nullif(this=node.copy(), expression=exp.Literal.number(0))


def _whole(node: exp.Cast) -> exp.Expr:
    """Cast to an integer: DuckDB rounds half to even, Spark cuts off."""
    inner = node.this.unnest()
    if isinstance(inner, _TRUTHS) or (isinstance(inner, exp.Literal) and inner.is_int):
        return node
    if isinstance(inner, exp.Floor | exp.Ceil | exp.Count):
        return node
    # Beyond 2^53 there are no fractions, and a detour by a double would lose digits.
    near = exp.LT(this=exp.Abs(this=_double(node.this)), expression=exp.Literal.number("9007199254740992"))
    rounded = exp.Cast(this=_call("RINT", _double(node.this)), to=node.to.copy())
    return exp.Case(ifs=[exp.If(this=near, true=rounded)], default=node.copy())
