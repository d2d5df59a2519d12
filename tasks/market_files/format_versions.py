"""Read market files of every version as if they had the current one. ticks/schema.py declares what each version has."""

import functools
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.errors import DamagedFile, NewerVersion
from tasks.ticks.schema import FORMAT_VERSION, SCHEMA, TEXT, schema_of
from tasks.ticks.tick_arrays import Ticks

#: The key of the version in a Parquet file; files of version 1 do not have it.
KEY = b"tick_export.format_version"


@functools.cache
def schema(version: int) -> pa.Schema:
    """Return the Arrow schema of the files of a version."""
    return schema_of(version)


def version_of(found: pa.Schema, footer: Mapping[bytes, bytes], path: Path) -> int:
    """Return the version of a file by its Arrow schema, which may have columns that somebody has added, and its footer.

    Raises NewerVersion, and DamagedFile if columns are not those of the version.
    """
    said = footer.get(KEY, b"1").decode("ascii", "replace")
    if not said.isdecimal() or not int(said):
        raise DamagedFile(f"{path}: {said[:20]!r} is not a format version")
    version = int(said)
    if version > FORMAT_VERSION:
        raise NewerVersion(path, f"format version {version}", f"versions up to {FORMAT_VERSION}")
    for field in schema(version):
        if field.name not in found.names or _plain(found.field(field.name)) != _plain(field):
            raise DamagedFile(f"{path}: its columns are not those of ticks ({field.name}, format version {version})")
    return version


def version_of_names(names: Collection[str], path: Path) -> int:
    """Return the version of a text file by the names of its columns: the newest version with these columns.

    Raises NewerVersion if there are more than in the current version, DamagedFile if they are not a tick's.
    """
    for version in range(FORMAT_VERSION, 0, -1):
        if set(names) == set(schema(version).names):
            return version
    if further := sorted(set(names) - set(SCHEMA.names)) if set(names) > set(schema(1).names) else []:
        raise NewerVersion(
            path, f"further columns ({', '.join(further)[:200]})", f"format versions up to {FORMAT_VERSION}"
        )
    raise DamagedFile(f"{path}: its columns are not those of ticks")


def require_schema(path: Path, found: pa.Schema, wanted: pa.Schema, what: str) -> None:
    """Check the columns of a table that does not state a version. what: what the table has, for the message.

    Raises NewerVersion if it has further columns, DamagedFile if it has others.
    """
    if found.equals(wanted):
        return
    if further := sorted(set(found.names) - set(wanted.names)) if set(found.names) > set(wanted.names) else []:
        raise NewerVersion(path, f"further columns ({', '.join(further)[:200]})", ", ".join(wanted.names))
    raise DamagedFile(f"{path}: its columns are not those of {what}. Delete it and run BuildStates.")


def as_today(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows of a file of any version, which may have further columns, with the columns of the current version.

    Text stays as it is, as a dictionary or not, because most callers do not use it.
    """
    if batch.schema.names == SCHEMA.names and all(map(_is_alike, batch.schema, SCHEMA)):
        return batch
    missing = set(SCHEMA.names).difference(batch.schema.names)
    if missing:  # derived from the others, as if these ticks were written now
        market_id = str(batch.column("market_id")[0]) if len(batch) else ""
        sequence = batch.column("sequence").to_numpy(zero_copy_only=False).astype(np.int64)
        made = Ticks.from_batch(batch).to_table(market_id, sequence).combine_chunks()
    arrays = [
        (_whole(made.column(field.name)) if field.name in missing else batch.column(field.name)).cast(field.type)
        for field in SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _plain(field: pa.Field) -> pa.Field:
    """Return a field with text as a plain string."""
    return (
        field.with_type(pa.string()).remove_metadata() if field.type in (TEXT, pa.string()) else field.remove_metadata()
    )


def _is_alike(field: pa.Field, other: pa.Field) -> bool:
    return bool(field.type == other.type or field.type in (TEXT, pa.string()) and other.type in (TEXT, pa.string()))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) and found.num_chunks else found
