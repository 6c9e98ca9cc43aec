"""Parquet and Arrow bodies to columns. Imported when the first one comes: pyarrow costs 0.2 s and 40 MiB.

A small body can stand for a lot of memory, so its size is known before anything is unpacked: a Parquet file's is in
its footer, an uncompressed Arrow stream's is its own. Compressed Arrow streams are refused; Parquet is for that.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import flatbuffers.table
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelformat import CategoryFeature, Encoder, NumberFeature
from serving.columns import Columns, check_names
from serving.errors import RequestError, bad

# What a value takes at most while it is worked on, whatever it took in the file.
BYTES_PER_VALUE = 8


def read_parquet(body: bytes, encoder: Encoder, max_decoded_bytes: int) -> Columns:
    """Return the columns of a Parquet file.

    Raises:
        RequestError: 400, it is not one, or not with these columns; 413, it would be too large in memory.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        metadata, names = file.metadata, file.schema_arrow.names
        size = sum(
            max(metadata.row_group(group).column(column).total_uncompressed_size, 0)
            for group in range(metadata.num_row_groups)
            for column in range(metadata.num_columns)
        )
        rows = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise bad(f"the body is not a valid Parquet file: {_first_line(error)}") from None
    _check_size(rows, size, encoder, max_decoded_bytes)
    check_names(names, encoder)
    _check_types(file.schema_arrow, encoder)
    texts = [feature.name for feature in encoder.features if isinstance(feature, CategoryFeature)]
    try:
        # Texts stay in dictionaries: the same long one in each row is there once.
        reader = pq.ParquetFile(pa.BufferReader(body), read_dictionary=texts)
        table = reader.read(use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise bad(f"the body is not a valid Parquet file: {_first_line(error)}") from None
    return _columns(table, encoder)


def read_arrow(body: bytes, encoder: Encoder, max_decoded_bytes: int) -> Columns:
    """Return the columns of an Arrow IPC stream.

    Raises:
        RequestError: 400, it is not one, or not with these columns; 413, it would be too large in memory.
    """
    try:
        rows = 0
        for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
            length, compressed = _record_batch(message.metadata.to_pybytes())
            if compressed:
                raise bad("the Arrow stream is compressed; send it uncompressed, or a Parquet file")
            rows += length
        _check_size(rows, len(body), encoder, max_decoded_bytes)
        with pa.ipc.open_stream(pa.BufferReader(body)) as stream:
            check_names(stream.schema.names, encoder)
            _check_types(stream.schema, encoder)
            table = stream.read_all()
            table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        raise bad(f"the body is not a valid Arrow stream: {_first_line(error)}") from None
    return _columns(table, encoder)


def _record_batch(metadata: bytes) -> tuple[int, bool]:
    """Return an Arrow message's rows and whether they are compressed; see Message.fbs of the Arrow format.

    Raises:
        ValueError: it is none.
    """
    try:
        root = flatbuffers.encode.Get(flatbuffers.packer.uoffset, metadata, 0)
        message = flatbuffers.table.Table(metadata, root)
        kind = message.Offset(6)
        if not kind or message.Get(flatbuffers.number_types.Uint8Flags, message.Pos + kind) not in (2, 3):
            return 0, False  # a schema
        dictionary = message.Get(flatbuffers.number_types.Uint8Flags, message.Pos + kind) == 2
        batch = flatbuffers.table.Table(metadata, message.Indirect(message.Pos + message.Offset(8)))
        if dictionary:
            batch = flatbuffers.table.Table(metadata, batch.Indirect(batch.Pos + batch.Offset(6)))
        length = batch.Offset(4)
        rows = batch.Get(flatbuffers.number_types.Int64Flags, batch.Pos + length) if length else 0
        return (0 if dictionary else rows), bool(batch.Offset(10))
    except Exception as error:  # the library checks nothing: anything can come of a broken message
        raise ValueError("a message cannot be read") from error


def _check_size(rows: int, size: int, encoder: Encoder, limit: int) -> None:
    if rows <= 0:
        raise bad("expected at least one row")
    decoded = max(size, rows * len(encoder.names) * BYTES_PER_VALUE)
    if decoded > limit:
        message = f"decoded, the body has {decoded} bytes or more; the limit is {limit}: send fewer rows"
        raise RequestError(413, "too-large", message)


def _check_types(schema: pa.Schema, encoder: Encoder) -> None:
    for feature in encoder.features:
        kind = schema.field(feature.name).type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if isinstance(feature, NumberFeature):
            value = kind  # numbers are not put into dictionaries
            fits = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
            expected = "numbers"
        else:
            fits = pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)
            expected = "text"
        if not fits and not pa.types.is_null(value):
            raise bad(f"column {feature.name!r}: expected {expected}, got {str(kind)[:60]}")


def _columns(table: pa.Table, encoder: Encoder) -> Columns:
    columns: dict[str, Any] = {}
    for feature in encoder.features:
        column = table.column(feature.name)
        if isinstance(feature, NumberFeature):
            columns[feature.name] = pc.cast(column, pa.float64(), safe=False).to_numpy()
        else:
            columns[feature.name] = _texts(column)
    return columns


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Return texts; each different one is made once, however often it is there."""
    texts: list[str | None] = []
    for chunk in column.chunks:
        if pa.types.is_null(chunk.type):
            texts += [None] * len(chunk)
            continue
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        names = [*coded.dictionary.to_pylist(), None]
        missing = len(names) - 1
        codes = coded.indices.to_numpy(zero_copy_only=False)
        if codes.dtype.kind == "f":  # how numpy is told of nulls
            codes = np.where(np.isnan(codes), missing, codes).astype(np.intp)
        texts += [names[code] for code in codes.tolist()]
    return texts


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
