"""The interface of a market file format: all that the pipeline needs of it."""

import abc
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from tasks.market_files.file_facts import FileFacts
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import NewFile
from tasks.ticks.schema import FORMAT_VERSION, READ_COLUMNS
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks


class TickSink(Protocol):
    """Writes the ticks of one market file."""

    def write(self, ticks: Ticks, sequence: Ints) -> None:
        """Append ticks, in file order and in whole messages, with the sequence of each."""

    def close(self) -> None:
        """Write buffered rows, and the end of the file."""

    def abandon(self) -> None:
        """Discard everything: the file will not be used."""


class MarketFormat(abc.ABC):
    """A format of market files; formats.py has them all.

    name: as in --format, and the suffix of its files without the dot; is_compressed: whether an archive need not
    compress its files; is_text: whether a file is just a head and the text of its ticks, one after the other;
    duckdb: how DuckDB reads its files, a table function of {files} and the types of the {columns}; "" if it cannot.
    """

    name: str
    is_compressed: bool
    is_text = False
    duckdb = ""

    @abc.abstractmethod
    def open(self, file: NewFile, market_id: str) -> TickSink:
        """Return what writes the ticks of a market into a file."""

    @abc.abstractmethod
    def batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file in their order, in batches of bounded size, with the columns of schema.SCHEMA.

        Raises DamagedFile if the content is not what open() writes. Any other error of a decoder is treated as that too
        (decoding.py), except an OSError of the operating system.
        """

    @abc.abstractmethod
    def span_batches(
        self, path: Path, span: Span, batch_rows: int, columns: Collection[str] = READ_COLUMNS
    ) -> Iterator[pa.RecordBatch]:
        """Yield at least the rows of a file that are in a span, about so many at once; skip as many others as possible.

        The batches have at least those columns (the default: all that Ticks.from_batch reads) that files of their
        version have. Raises as batches() does.
        """

    def parts(self, path: Path, span: Span, count: int) -> list[Span]:
        """Return a span cut into at most so many disjoint ones, in order, that several threads can read at once: of a
        format whose decoder does not hold Python's lock, parts of about as many rows. Raises as batches() does.
        """
        return [span]

    @abc.abstractmethod
    def rows_between(self, path: Path, facts: FileFacts, span: Span) -> float:
        """Estimate how many ticks of a file are in a span that overlaps it, without reading them."""

    def version(self, path: Path) -> int:
        """Return the format version of a file. Raises as batches() does."""
        return FORMAT_VERSION

    def flaws(self, path: Path) -> Iterator[tuple[str, object, object]]:
        """Yield where a readable file differs, apart from its ticks, from what open() writes: what, found, expected."""
        yield from ()

    def head(self, version: int = FORMAT_VERSION) -> bytes:
        """Return the text before the first tick in a version, such as the names of the columns; only if is_text."""
        return b""

    def text(self, ticks: Ticks, market_id: str, sequence: Ints, version: int = FORMAT_VERSION) -> Iterator[pa.Buffer]:
        """Yield the text of one market's ticks, in file order, in a version; only if is_text."""
        raise NotImplementedError(f"{self.name} is not text")
