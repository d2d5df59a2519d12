"""Which types a column of the recorder's tables may have: those that are read without changing a value."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tasks.errors import DatabaseError
from tasks.postgres.server import Server

#: Of each table, its columns with the type behind a domain. typmod: -1, or what is in parentheses after the type.
_TYPES = """
    SELECT a.attrelid::int8, a.attname::text, base.typname::text, base.typcategory::text,
           CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END,
           pg_catalog.format_type(a.atttypid, a.atttypmod)
      FROM pg_catalog.pg_attribute a
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
      JOIN pg_catalog.pg_type base ON base.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
     WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
"""
#: As many decimal digits as every double can hold.
_EXACT_DIGITS = 15


@dataclasses.dataclass(frozen=True)
class _Type:
    """A column's type. name: as pg_type has it; category: S for text, E for an enumeration."""

    name: str
    category: str
    modifier: int

    @property
    def length(self) -> int | None:
        """The most characters that it holds, None if it has no limit."""
        return self.modifier - 4 if self.modifier >= 4 else None

    @property
    def digits(self) -> int | None:
        """The most digits of a numeric, None if it has no limit."""
        return (self.modifier - 4) >> 16 & 0xFFFF if self.modifier >= 4 else None


def _is_integer(found: _Type) -> bool:
    return found.name in ("int2", "int4", "int8")


def _is_time(found: _Type) -> bool:
    return found.name in ("timestamptz", "timestamp")


def _is_number(found: _Type) -> bool:
    if found.name == "numeric":
        return found.digits is not None and found.digits <= _EXACT_DIGITS
    return found.name in ("float8", "float4", "int2", "int4")


def _is_letter(found: _Type) -> bool:
    return found.name == "char" or found.name in ("bpchar", "varchar") and found.length == 1


def _is_id(found: _Type) -> bool:
    return found.name in ("text", "varchar")  # char(n) would add spaces


_NUMBER = (_is_number, f"double precision, real, integer, or numeric of at most {_EXACT_DIGITS} digits")
_INTEGER = (_is_integer, "bigint, integer or smallint")
#: A timestamp without time zone is read as UTC.
_TIME = (_is_time, "timestamp with time zone, or a timestamp in UTC")

#: Of each column, what its type must be, and what that is called.
_ACCEPTED: Mapping[str, tuple[Callable[[_Type], bool], str]] = {
    "market_id": (_is_id, "character varying or text"),
    "selection_id": _INTEGER,
    "level": _INTEGER,
    "side": (_is_letter, "character(1)"),
    "price": _NUMBER,
    "size": _NUMBER,
    "size_traded": _NUMBER,
    "publish_time": _TIME,
    "received_time": _TIME,
    "market_start_time": _TIME,
    "in_play": (lambda found: found.name == "bool", "boolean"),
}
_TEXT = (lambda found: found.category in "SE", "text")


def require(cursor: Any, server: Server, columns: Mapping[int, tuple[str, Collection[str]]]) -> None:
    """Refuse columns whose type could change a value. columns: by the oid of a table, its name and the columns that are
    read. Raises DatabaseError that names all of them.
    """
    cursor.execute(_TYPES, {"oids": list(columns)})
    wrong = []
    for oid, column, name, category, modifier, shown in cursor.fetchall():
        table, read = columns[oid]
        accepts, expected = _ACCEPTED.get(column, _TEXT)
        if column in read and not accepts(_Type(name, category, modifier)):
            wrong.append(f"{table}.{column} is {shown}, expected {expected}")
    if wrong:
        raise DatabaseError(
            f"In {server} {'; '.join(sorted(wrong))}. Values of such a type could not be read without changing them, so"
            " nothing is exported. Check POSTGRES_DB, or have PGOPTIONS' search_path name the schema of the recorder's"
            " tables."
        )
