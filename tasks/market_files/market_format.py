"""What a format of market files has to offer: the pipeline asks for nothing else."""

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from tasks.market_files.file_facts import FileFacts
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import NewFile
from tasks.ticks.schema import FORMAT_VERSION
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks


class TickSink(Protocol):
    """Where the ticks of one market file go while it is written."""

    def write(self, ticks: Ticks, sequence: Ints) -> None:
        """Append ticks, in file order and cut between publish times only, with the sequence of each."""

    def close(self) -> None:
        """Write what is still held back, and what ends the file."""

    def abandon(self) -> None:
        """Let go of everything: the file will not be used."""


class MarketFormat(abc.ABC):
    """A format of market files; formats.py has them all.

    name: as --format has it, and the suffix of its files without the dot; is_compressed: whether an archive need not
    try to make its files smaller; is_text: whether a file is the text of its ticks, one after the other, and nothing
    else.
    """

    name: str
    is_compressed: bool
    is_text = False

    @abc.abstractmethod
    def open(self, file: NewFile, market_id: str) -> TickSink:
        """Return what writes the ticks of a market into a file."""

    @abc.abstractmethod
    def batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file in their order, in batches of bounded size, with the columns of schema.SCHEMA.

        Raises DamagedFile if the content is not what open() writes. Whatever else a decoder raises is taken for
        that too (decoding.py), but for an OSError of the operating system.
        """

    @abc.abstractmethod
    def span_batches(self, path: Path, span: Span, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield at least the rows of a file that are in a span, about so many at once, and skip what else it can.

        The batches have at least the columns that Ticks.from_batch reads. Raises as batches() does.
        """

    @abc.abstractmethod
    def rows_between(self, path: Path, facts: FileFacts, span: Span) -> float:
        """Return about how many ticks of a file are in a span that some of them are in, without reading them."""

    def version(self, path: Path) -> int:
        """Return the format version of a file. Raises as batches() does."""
        return FORMAT_VERSION

    def flaws(self, path: Path) -> Iterator[tuple[str, object, object]]:
        """Yield what is otherwise in a readable file than open() writes it, ticks aside: what, found, expected."""
        yield from ()

    def text(self, ticks: Ticks, market_id: str, sequence: Ints, version: int = FORMAT_VERSION) -> Iterator[pa.Buffer]:
        """Yield the text of ticks of one market, in file order, as a version has it; only where is_text."""
        raise NotImplementedError(f"{self.name} is not text")
