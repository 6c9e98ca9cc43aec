"""What preparation does, as SQL (DuckDB's) over the configured tables. Pure: no engine, no files.

The steps, of which each sees the views and tables of those before it:

1. ``__query``: the dataset's query, over a view of each table's files;
2. ``__prepared``: its rows with the types that models take, stored once, in an order that the rows alone decide;
3. `Plan.facts`: one row about all of them; its ``last_day`` takes the place of `LAST_DAY` in the later steps;
4. the rows of each part, by `Plan.conditions`, are written to files; ``__train`` are those of that part, ``__parts``
   all of them with the part's name in column `PART`, both with a column `CHUNK`;
5. `Plan.outcomes`, `Plan.leaks`, `Plan.targets`, `Plan.moments`, `Plan.counts`: aggregates over the parts. The rows of
   `Plan.moments` stay there as ``__moments``, as the counts' bins lie between the extremes that they tell.

Names begin with two underscores, which no table's does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched

from mlplatform.config.dataset import ModelConfig, TimeSplit
from mlplatform.documents.profiles import BINS
from mlplatform.errors import NonRetryableError
from trainer import sql

PARTS = ("train", "validation", "test")
LAST_DAY = "@last_day@"
"""Stands in statements for the last day of a split by time, as ``YYYY-MM-DD``."""
CHUNK = "__chunk"
"""Column that tells apart rows which one thread reads in order, see `_moments`."""
PART = "__part"
"""Column of ``__prepared`` with the drawn part, where the split is by hash."""
RESERVED = (PART, CHUNK, "rowid")
"""What no column of a query may be called: the engines' own names of what a row has besides."""

MOST_CLASSES = 1_000
MOST_CATEGORIES = 100_000
SETS = 16
"""Columns counted by one statement."""
_LARGEST = "1.7976931348623157e308"
_SEPARATOR = "\x1f"

TEXTUAL = sql.INTEGERS | {"VARCHAR", "BOOLEAN", "DATE", "UUID"}
"""Types with one textual form everywhere. That of a floating-point number depends on who writes it."""
_PLAIN = {
    **dict.fromkeys(sql.INTEGERS, "bigint"),
    **{"HUGEINT": "double", "UHUGEINT": "double", "FLOAT": "double", "DOUBLE": "double"},
    **{"VARCHAR": "varchar", "BOOLEAN": "boolean", "DATE": "date", "UUID": "varchar"},
    **{"TIMESTAMP": "timestamp", "TIMESTAMP_NS": "timestamp", "TIMESTAMP_MS": "timestamp", "TIMESTAMP_S": "timestamp"},
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
}


@dataclass(frozen=True)
class Statement:
    """An aggregate over the prepared rows.

    Attributes:
        most_rows: how many rows of it are acceptable; with more, `otherwise` is why the step is refused.
    """

    name: str
    sql: str
    most_rows: int | None = None
    otherwise: str = ""


@dataclass(frozen=True)
class Plan:
    """All that an engine has to do.

    Attributes:
        columns: of the files written, in order.
        prepared: selects them, and `PART` of a split by hash, from ``__query``.
        order: leading columns of the files' order; a hash of the whole row follows.
        valid: condition on rows of ``__prepared`` that have a target and what the split needs.
        conditions: of each part, on valid rows.
        facts: one row: ``rows``, ``valid``, ``no_target``, ``not_binary``, ``last_day``.
        outcomes: rows by part (and class), first and last time.
        targets: moments of a regression's target by part and chunk.
        moments: of the train split's number features by chunk.
        counts: how often each category, and each bin of a number, occurs in the train split.
    """

    model: ModelConfig
    columns: Sequence[str]
    prepared: str
    order: Sequence[str]
    valid: str
    conditions: Mapping[str, str]
    facts: Statement
    outcomes: Statement
    targets: Statement | None
    moments: Statement | None
    counts: Sequence[Statement] = field(default_factory=list)

    def rows(self, part: str) -> str:
        """Select the rows of a part, unordered; `LAST_DAY` stands in it where the split is by time."""
        columns = ", ".join(map(sql.identifier, self.columns))
        return f"select {columns} from __prepared where {self.valid} and {self.conditions[part]}"

    def leaks(self, features: Sequence[str], source: str = "__parts") -> Statement:
        """Aggregate what tells whether features are the target under another name.

        Args:
            source: some rows are enough to rule most features out.
        """
        return _leaks(self.model, features, source)

    @property
    def aggregates(self) -> Iterator[Statement]:
        """Those over the parts, `leaks` aside."""
        yield self.outcomes
        if self.targets:
            yield self.targets
        if self.moments:
            yield self.moments
        yield from self.counts


def numbers(model: ModelConfig) -> list[str]:
    """Names of the number features."""
    return [name for name, feature in model.features.items() if feature.type == "number"]


def categories(model: ModelConfig) -> list[str]:
    """Names of the category features."""
    return [name for name, feature in model.features.items() if feature.type == "category"]


def key_columns(model: ModelConfig) -> list[str]:
    """Columns the split goes by; a row without one of them belongs nowhere."""
    split = model.split
    return list(split.key) if split.kind == "random" else [split.column]


def make_plan(model: ModelConfig, types: Mapping[str, str]) -> Plan:
    """Plan the preparation of a dataset.

    Args:
        types: of the query's columns, by name and in order, as DuckDB calls them.

    Raises:
        NonRetryableError: a column is missing, or is of a type that cannot be what the configuration makes of it.
    """
    _check(model, types)
    target = sql.identifier(model.target)
    split = model.split
    prepared = ", ".join([*(_typed(model, name, kind) for name, kind in types.items()), *_drawn(model, types)])
    keys = [sql.identifier(name) for name in key_columns(model)]
    valid = " and ".join(f"{name} is not null" for name in dict.fromkeys([target, *keys]))
    day = f"cast({keys[0]} as date)"
    # `not_binary` counts before rows without target are left out, so that a wrong query is not hidden by them.
    facts = [
        "count(*) as rows",
        f"{_count(valid)} as valid",
        f"{_count(f'{target} is null')} as no_target",
        f"{_count(f'{target} not in (0, 1)')} as not_binary" if model.task == "binary" else "0 as not_binary",
        f"{f'cast(max(case when {valid} then {day} end) as varchar)' if split.kind == 'time' else 'null'} as last_day",
    ]
    return Plan(
        model=model,
        columns=list(types),
        prepared=f"select {prepared} from __query",
        order=keys if split.kind == "time" else [],
        valid=valid,
        conditions=_conditions(split, day),
        facts=Statement("facts", f"select {', '.join(facts)} from __prepared"),
        outcomes=_outcomes(model),
        targets=_moments("targets", "__parts", [model.target], by_part=True) if model.task == "regression" else None,
        moments=_moments("moments", "__train", numbers(model)) if numbers(model) else None,
        counts=list(_counts(model)),
    )


def _count(condition: str) -> str:
    """Count rows; `count_if` of some engines is null where a condition is null on all of them."""
    return f"count(case when {condition} then 1 end)"


def _key(model: ModelConfig) -> str:
    return "split.key" if model.split.kind == "random" else "split.column"


def _check(model: ModelConfig, types: Mapping[str, str]) -> None:
    source = f"config/models/{model.name}.yaml"
    needed = [*model.features, model.target, *key_columns(model), *model.references]
    if lacking := [column for column in dict.fromkeys(needed) if column not in types]:
        them = "it" if len(lacking) == 1 else "them"
        raise NonRetryableError(
            f"{source}: query: has no column {', '.join(lacking)}; select {them} or take {them} out of features, "
            "target, split and references",
            kind="bad-config",
        )
    if taken := [name for name in types if name.lower() in RESERVED]:
        raise NonRetryableError(
            f"{source}: query: no column may be called {taken[0]}; give it another name", kind="bad-config"
        )
    textual = {f"features.{name}": name for name in categories(model)}
    if model.split.kind != "time":
        textual.update({_key(model): name for name in key_columns(model)})
    if model.task == "multiclass":
        textual["target"] = model.target
    for key, name in textual.items():
        kind = types[name]
        if kind in TEXTUAL or kind.startswith("ENUM") or (key.startswith("split.") and kind.startswith("TIMESTAMP")):
            continue
        raise NonRetryableError(
            f"{source}: {key}: column {name} of the query is {kind.lower()}, which has no one textual form; cast it to "
            "an integer or a text there",
            kind="bad-config",
        )
    if isinstance(model.split, TimeSplit):
        kind = types[model.split.column]
        if not (kind.startswith("TIMESTAMP") or kind == "DATE"):
            raise NonRetryableError(
                f"{source}: split.column: column {model.split.column} of the query is {kind.lower()}, not a time; cast "
                "it to timestamp or date there",
                kind="bad-config",
            )


def _typed(model: ModelConfig, name: str, kind: str) -> str:
    """Select a column with the type that models, or readers of the files, take."""
    here = sql.identifier(name)
    feature = model.features.get(name)
    if name == model.target:
        wanted = "varchar" if model.task == "multiclass" else "double"
    elif feature is not None:
        wanted = "double" if feature.type == "number" else "varchar"
    else:
        plain = _PLAIN.get(kind, "varchar" if kind.startswith("ENUM") else None)
        return here if plain is None else f"cast({here} as {plain}) as {here}"
    cast = f"cast({here} as {wanted})"
    # A division by zero in the query is a missing value, as no model takes an infinite one. NaN is above all numbers.
    finite = f"case when abs({cast}) <= {_LARGEST} then {cast} end"
    return f"{finite if wanted == 'double' else cast} as {here}"


def _text(name: str, kind: str) -> str:
    """Return a column's canonical text, the same whoever computes it."""
    here = sql.identifier(name)
    return f"cast(epoch_us({here}) as varchar)" if kind.startswith("TIMESTAMP") else f"cast({here} as varchar)"


def _drawn(model: ModelConfig, types: Mapping[str, str]) -> list[str]:
    """Select the part that a row's key draws.

    The first 64 bits of an MD5 are a uniform draw that every engine computes alike. Written in hexadecimal they
    compare as texts, so that no engine's arithmetic comes into it.
    """
    split = model.split
    if split.kind == "time":
        return []
    texts = [sql.literal(str(split.seed)), *(_text(name, types[name]) for name in key_columns(model))]
    digest = f"md5({f' || {sql.literal(_SEPARATOR)} || '.join(texts)})"
    test, validation = threshold(split.test_share), threshold(split.test_share + split.validation_share)
    return [
        f"case when {digest} < {sql.literal(test)} then 'test' when {digest} < {sql.literal(validation)} "
        f"then 'validation' else 'train' end as {sql.identifier(PART)}"
    ]


def threshold(share: float) -> str:
    """Return the hexadecimal text below which a share of all MD5 digests lies."""
    return f"{min(round(share * 2**64), 2**64 - 1):016x}"


def _conditions(split: object, day: str) -> dict[str, str]:
    if not isinstance(split, TimeSplit):
        return {part: f"{sql.identifier(PART)} = {sql.literal(part)}" for part in PARTS}
    # Days are those of the split column, UTC if it has a time zone.
    last = f"cast('{LAST_DAY}' as date)"
    test = f"{last} - {split.test_days}"
    validation = f"{last} - {split.test_days + split.validation_days}"
    return {
        "train": f"{day} <= {validation}",
        "validation": f"{day} > {validation} and {day} <= {test}",
        "test": f"{day} > {test}",
    }


def _outcomes(model: ModelConfig) -> Statement:
    """Aggregate per part, and per class where there are any."""
    target = sql.identifier(model.target)
    select = [f"{sql.identifier(PART)} as part", "count(*) as rows"]
    if isinstance(model.split, TimeSplit):
        time = sql.identifier(model.split.column)
        for name, extreme in {"first": "min", "last": "max"}.items():
            select.append(f"epoch_us(cast({extreme}({time}) as timestamp)) as {name}")
    if model.task == "regression":
        select += [f"min({target}) as lowest", f"max({target}) as highest"]
        return Statement("outcomes", f"select {', '.join(select)} from __parts group by {sql.identifier(PART)}")
    label = _label(model)
    most = MOST_CLASSES * len(PARTS)
    return Statement(
        "outcomes",
        f"select {label} as class, {', '.join(select)} from __parts group by {sql.identifier(PART)}, {label} "
        f"limit {most + 1}",
        most,
        f"config/models/{model.name}.yaml: target: {model.target} has more than {MOST_CLASSES} classes; group the rare "
        "ones in the query, or make it a regression",
    )


def _label(model: ModelConfig) -> str:
    """Return the text of a row's class."""
    target = sql.identifier(model.target)
    return f"cast(cast({target} as integer) as varchar)" if model.task == "binary" else target


def _leaks(model: ModelConfig, features: Sequence[str], source: str) -> Statement:
    """Aggregate features per class, or count where they are the target.

    A feature that is the answer has one value within each class, and another one in each.
    """
    select = ["count(*) as rows"]
    for number, name in enumerate(model.features):
        if name not in features:
            continue
        here = sql.identifier(name)
        if model.task == "regression":
            value = here if model.features[name].type == "number" else f"try_cast({here} as double)"
            select.append(f"{_count(f'{value} = {sql.identifier(model.target)}')} as same_{number}")
        else:
            for key, aggregate in {"there": "count", "low": "min", "high": "max"}.items():
                select.append(f"{aggregate}({here}) as {key}_{number}")
    if model.task == "regression":
        return Statement("leaks", f"select {', '.join(select)} from {source}")
    label, most = _label(model), MOST_CLASSES * len(PARTS)
    return Statement(
        "leaks", f"select {label} as class, {', '.join(select)} from {source} group by {label} limit {most + 1}"
    )


def _moments(name: str, source: str, columns: Sequence[str], by_part: bool = False) -> Statement:
    """Aggregate numbers chunk by chunk.

    Sums of floating-point numbers depend on their order. Within a chunk it is that of the rows; the chunks are put
    together by `outcome` in one order. So the same data gives the same mean to the last bit, whatever the threads do.
    """
    select = [f"{CHUNK} as chunk", "count(*) as rows"]
    if by_part:
        select.insert(0, f"{sql.identifier(PART)} as part")
    for number, column in enumerate(columns):
        here = sql.identifier(column)
        select += [
            f"count({here}) as there_{number}",
            f"avg({here}) as mean_{number}",
            f"var_pop({here}) as variance_{number}",
            f"min({here}) as low_{number}",
            f"max({here}) as high_{number}",
        ]
    groups = [*([sql.identifier(PART)] if by_part else []), CHUNK]
    return Statement(name, f"select {', '.join(select)} from {source} group by {', '.join(groups)}")


def _counts(model: ModelConfig) -> Iterator[Statement]:
    """Count the values of categories and the bins of numbers, several columns in one pass by grouping sets."""
    for index, names in enumerate(batched(categories(model), SETS)):
        keys = [sql.identifier(name) for name in names]
        most = MOST_CATEGORIES
        yield Statement(
            f"categories_{index}",
            f"{_grouped(keys)} from __train group by {_sets(keys)} limit {most + 1}",
            most,
            f"config/models/{model.name}.yaml: features: {', '.join(names)} have more than {most} different values; "
            "group the rare ones in the query, or take out what names rows rather than kinds",
        )
    for index, names in enumerate(batched(numbers(model), SETS)):
        select, extremes = [], []
        for number, name in enumerate(names):
            low, high = (f"{extreme}_{index * SETS + number}" for extreme in ("low", "high"))
            # Halves, as the whole width of the largest numbers is none. The largest number is in bin `BINS`, beyond
            # the last: `outcome` puts them together, as a comparison for each number would cost more.
            width = f"max({high}) / 2 - min({low}) / 2"
            extremes += [
                f"min({low}) / 2 as low_{number}",
                f"case when {width} > 0 then {width} else 1 end as width_{number}",
            ]
            place = f"({sql.identifier(name)} * 0.5 - low_{number}) / width_{number} * {BINS}"
            select.append(f"cast(floor({place}) as tinyint) as bin_{number}")
        keys = [f"bin_{number}" for number in range(len(names))]
        yield Statement(
            f"bins_{index}",
            f"{_grouped(keys)} from (select {', '.join(select)} from __train cross join "
            f"(select {', '.join(extremes)} from __moments) extremes) binned group by {_sets(keys)}",
        )


def _grouped(keys: Sequence[str]) -> str:
    values = [f"{key} as value_{number}, grouping({key}) as others_{number}" for number, key in enumerate(keys)]
    return f"select {', '.join(values)}, count(*) as rows"


def _sets(keys: Sequence[str]) -> str:
    return f"grouping sets ({', '.join(f'({key})' for key in keys)})"
