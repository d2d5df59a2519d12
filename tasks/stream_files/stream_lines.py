"""The lines of a stream: one per message with its changes, and full images where a reader needs them."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.stream_files.definition import DefinitionFeed
from tasks.stream_files.price_changes import ladder_changes
from tasks.ticks import value_text
from tasks.ticks.snapshots import LEVELS, Floats, Slots, Snapshots
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks
from tasks.ticks.true_volume import TrueVolume, VolumeChanges

_KINDS = ('"atb":[', '"atl":[', '"trd":[')


@dataclasses.dataclass
class Counts:
    """Counts of a stream: lines of stored messages, lines with only a new definition, full images, and rows that no
    book can show.
    """

    messages: int = 0
    definition_lines: int = 0
    images: int = 0
    left_out: int = 0


class StreamLines:
    """The lines of one market. gap_us: after a longer silence there is a full image."""

    def __init__(self, market_id: str, feed: DefinitionFeed, gap_us: int) -> None:
        self._market_id, self._feed, self._gap_us = market_id, feed, gap_us
        self._slots = Slots()
        self._volumes = TrueVolume(self._slots)
        self._matched = np.zeros(0)
        self._last_price = np.zeros(0)
        self._last_us: int | None = None
        self._clock = 0
        self._seen_runners = 0
        self._told: set[int] = set()
        self.counts = Counts()

    def lines(self, ticks: Iterable[Ticks]) -> Iterator[bytes]:
        """Yield the lines of ticks, given in file order, many at once."""
        price = size = np.zeros((0, 2, LEVELS))
        for chunk in self._slots.layout(ticks):
            yield self._text(chunk, price, size)
            price, size = chunk.price[-1].copy(), chunk.size[-1].copy()
        yield "".join(self._due(None)).encode()

    def _text(self, chunk: Snapshots, price: Floats, size: Floats) -> bytes:
        self.counts.left_out += chunk.left_out
        self.counts.messages += len(chunk)
        runners = chunk.price.shape[1]
        more = np.zeros(runners - len(self._matched))
        self._matched, self._last_price = np.append(self._matched, more), np.append(self._last_price, more)
        start_volume = self._volumes.volume
        volumes = self._volumes.changes(chunk)
        times = chunk.publish_time.tolist()
        steps = np.diff(chunk.publish_time, prepend=times[0] if self._last_us is None else self._last_us)
        images = {int(number) for number in np.flatnonzero(steps > self._gap_us)} | volumes.images
        if self._last_us is None:
            images.add(0)
        for coming in self._feed.clearings():  # a message in between clears the book
            after = int(np.searchsorted(chunk.publish_time, coming))
            if after < len(times) and times[after] != coming:
                images.add(after)
        traded = self._traded(volumes, runners, images)
        pieces = self._pieces(chunk, ladder_changes(chunk, price, size), traded)
        new_runners = self._new_runners(chunk)
        pictures = {}
        for number in sorted(images):
            known = self._told.union(*(new for first, new in new_runners.items() if first <= number))
            pictures[number] = self._picture(chunk, number, start_volume, volumes, traded, known)
        lines: list[str] = []
        for number, moment in enumerate(times):
            due = self._feed.next_us()
            if due is not None and due < moment and self._last_us is not None:
                lines += self._due(moment)
                due = self._feed.next_us()
            self._last_us = moment
            is_image = number in pictures
            body = ""
            self._told.update(new_runners.get(number, ()))
            is_new = number in new_runners and not self._feed.knows(new_runners[number])
            if is_image or is_new or due is not None and due <= moment:
                body = f'"marketDefinition":{self._feed.as_of(moment)},'
            rc = pictures[number] if is_image else pieces[number]
            lines.append(self._line(moment, f'{body}"rc":[{rc}],"con":false' + (',"img":true' if is_image else "")))
        self.counts.images += len(pictures)
        self._matched = traded.matched_after
        self._last_price = traded.last_price_after
        return "".join(lines).encode()

    def _line(self, moment_us: int, body: str) -> str:
        self._clock += 1
        start = f'{{"op":"mcm","clk":"{self._clock}","pt":{moment_us // 1000},"mc":[{{"id":"{self._market_id}",'
        return f"{start}{body}}}]}}\n"

    def _due(self, before_us: int | None) -> Iterator[str]:
        """Yield the lines of definitions that are due before a time (all that are left if None), each with its own
        time.

        Such a message was stored without a row. If the market is not open, this means that its book was empty.
        """
        while (due := self._feed.next_us()) is not None and (before_us is None or due < before_us):
            self.counts.definition_lines += 1
            definition = self._feed.as_of(due)
            empty = ",".join(f'{{"id":{selection_id}}}' for selection_id in sorted(self._told))
            rest = f',"rc":[{empty}],"con":false,"img":true' if self._feed.clears else ',"con":false'
            yield self._line(due, f'"marketDefinition":{definition}{rest}')

    def _new_runners(self, chunk: Snapshots) -> dict[int, list[int]]:
        """Return the runners that appear in a chunk for the first time, by message."""
        known, self._seen_runners = self._seen_runners, chunk.price.shape[1]
        found: dict[int, list[int]] = {}
        for runner in range(known, self._seen_runners):
            there = (chunk.price[:, runner] > 0).any(axis=(1, 2))
            of_runner = np.flatnonzero(self._slots.traded_runner == runner)
            there |= (chunk.traded[:, of_runner] > 0).any(axis=1)
            first = int(np.argmax(there))
            found.setdefault(first, []).append(int(self._slots.selection_id[runner]))
        return found

    def _rank(self) -> Ints:
        """Return the place of each runner by selection id: the order of runners in a line."""
        rank = np.empty(len(self._slots.selection_id), np.int64)
        rank[np.argsort(self._slots.selection_id)] = np.arange(len(rank))
        return rank

    def _pieces(self, chunk: Snapshots, changes: Any, traded: "_Traded") -> list[str]:
        """Return the content of rc for each message that is not a full image."""
        runners = chunk.price.shape[1]
        rank = self._rank()[:runners]
        group = (changes.message * runners + rank[changes.runner]) * 3 + changes.side
        group, text = _joined(group, _entries(changes.price, changes.size))
        group = np.concatenate([group, (traded.message * runners + rank[traded.runner]) * 3 + 2])
        text = pa.concat_arrays([text, traded.text.cast(text.type)])
        order = np.argsort(group, kind="stable")
        group, text = group[order], text.take(pa.array(order))
        kinds = pa.array(_KINDS).take(pa.array(group % 3))
        ends = pa.array(["]", "]", ""]).take(pa.array(group % 3))
        piece = pc.binary_join_element_wise(kinds, text, ends, "")
        whose, body = _joined(group // 3, piece)
        ids = pa.array(self._slots.selection_id[np.argsort(self._slots.selection_id[:runners])]).cast(pa.string())
        body = pc.binary_join_element_wise("{", body, ',"id":', ids.take(pa.array(whose % runners)), "}", "")
        message, rc = _joined(whose // runners, body)
        texts = [""] * len(chunk)
        for number, written in zip(message.tolist(), rc.to_pylist()):
            texts[number] = written
        return texts

    def _traded(self, volumes: VolumeChanges, runners: int, images: set[int]) -> "_Traded":
        """Return the trd, tv and ltp of each message and runner whose volumes change."""
        runner = self._slots.traded_runner[volumes.slot]
        price = self._slots.traded_price[volumes.slot]
        order = np.lexsort((price, self._rank()[runner], volumes.message))
        message, runner, price = volumes.message[order], runner[order], price[order]
        volume, grown = volumes.volume[order], (volumes.volume - volumes.before)[order]
        group, text = _joined(message * runners + runner, _entries(price, volume), is_sorted=False)
        starts = np.flatnonzero(np.diff(message * runners + runner, prepend=-1))
        of_message, of_runner = message[starts], runner[starts]
        grown_by = np.add.reduceat(grown, starts) if len(starts) else np.zeros(0)
        matched = np.zeros(len(starts))
        matched_after = self._matched.copy()
        by_runner = np.argsort(of_runner, kind="stable")
        sums = np.cumsum(grown_by[by_runner])
        first = np.flatnonzero(np.diff(of_runner[by_runner], prepend=-1))
        base = (
            np.repeat(np.concatenate([[0.0], sums])[first], np.diff(np.append(first, len(by_runner))))
            if len(first)
            else np.zeros(0)
        )
        matched[by_runner] = np.round(self._matched[of_runner[by_runner]] + sums - base, 2)
        last_price_after = self._last_price.copy()
        most = np.maximum.reduceat(grown, starts) if len(starts) else np.zeros(0)
        sizes = np.diff(np.append(starts, len(grown)))
        is_most = (grown == np.repeat(most, sizes)) & (grown > 0.005)
        is_most &= ~np.isin(message, list(images))
        where = np.flatnonzero(is_most)
        its_group = np.repeat(np.arange(len(starts)), sizes)[where]
        last_price = np.zeros(len(starts))
        last_price[its_group[::-1]] = price[where[::-1]]  # if several are equal, the lowest price
        matched_after[of_runner] = matched  # in the order of messages: the last one stays
        has = last_price > 0
        last_price_after[of_runner[has]] = last_price[has]
        written = pc.binary_join_element_wise(text, '],"tv":', value_text.floats(matched).cast(pa.string()), "")
        with_price = pc.binary_join_element_wise(
            written, ',"ltp":', value_text.floats(last_price).cast(pa.string()), ""
        )
        return _Traded(
            of_message,
            of_runner,
            pc.if_else(pa.array(has), with_price, written),
            matched,
            last_price,
            matched_after,
            last_price_after,
        )

    def _picture(
        self,
        chunk: Snapshots,
        number: int,
        start_volume: Floats,
        volumes: VolumeChanges,
        traded: "_Traded",
        known: set[int],
    ) -> str:
        """Return rc of a full image. known: the runners seen so far. Those without a book are included, because
        nautilus_trader clears only the runners that an image names.
        """
        volume = np.zeros(len(self._slots.traded_price))
        volume[: len(start_volume)] = start_volume
        earlier = volumes.message <= number
        volume[volumes.slot[earlier]] = volumes.volume[earlier]
        matched, last_price = self._matched.copy(), self._last_price.copy()
        earlier = traded.message <= number
        matched[traded.runner[earlier]] = traded.matched[earlier]
        earlier &= traded.last_price > 0
        last_price[traded.runner[earlier]] = traded.last_price[earlier]
        parts = []
        for runner in np.argsort(self._slots.selection_id[: chunk.price.shape[1]]).tolist():
            texts = []
            for side in (0, 1):
                rows: dict[float, float] = {}
                for price, size in zip(
                    chunk.price[number, runner, side].tolist(), chunk.size[number, runner, side].tolist()
                ):
                    if price > 0:
                        rows.setdefault(price, size)
                if rows:
                    texts.append(_KINDS[side] + _listed(list(rows.items())) + "]")
            slots = np.flatnonzero((self._slots.traded_runner == runner) & (volume > 0))
            slots = slots[np.argsort(self._slots.traded_price[slots])]
            if len(slots):
                entries = zip(self._slots.traded_price[slots].tolist(), volume[slots].tolist())
                texts.append(f'{_KINDS[2]}{_listed(list(entries))}],"tv":{_number(matched[runner])}')
            if last_price[runner] > 0:
                texts.append(f'"ltp":{_number(last_price[runner])}')
            selection_id = int(self._slots.selection_id[runner])
            if texts or selection_id in known:
                parts.append("{" + ",".join([*texts, f'"id":{selection_id}}}']))
        return ",".join(parts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Traded:
    """The trades in the stream, one element per message and runner; text: the entries of trd, and tv and ltp."""

    message: Ints
    runner: Ints
    text: pa.Array
    matched: Floats
    last_price: Floats
    matched_after: Floats
    last_price_after: Floats


def _entries(price: Floats, size: Floats) -> pa.Array:
    """Return the text [price,size] of each row."""
    texts = [value_text.floats(values).cast(pa.string()) for values in (price, size)]
    return pc.binary_join_element_wise("[", texts[0], ",", texts[1], "]", "")


def _joined(group: Ints, text: pa.Array, is_sorted: bool = True) -> tuple[Ints, pa.Array]:
    """Return each group of adjacent rows, and its texts separated by commas."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    offsets = pa.array(np.append(starts, len(group)).astype(np.int32))
    return group[starts], pc.binary_join(pa.ListArray.from_arrays(offsets, text), ",")


def _listed(entries: list[tuple[float, float]]) -> str:
    return ",".join(f"[{_number(price)},{_number(size)}]" for price, size in entries)


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
