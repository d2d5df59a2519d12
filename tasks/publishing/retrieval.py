"""Fetch a published export, or the requested markets and days of it, and verify each file."""

import dataclasses
import datetime
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tasks.errors import StoreError, UsageError
from tasks.export_directory import index_csv
from tasks.export_directory.index_csv import Index, IndexRow
from tasks.market_files.time_span import Span
from tasks.publishing.manifest import Entry, Manifest
from tasks.publishing.place import Place
from tasks.publishing.transfers import Progress, transfer_all
from tasks.storage.atomic_files import NewFile, flush_directory, make_directory, remove_leftovers, replacing
from tasks.storage.disk_space import require_room
from tasks.storage.file_identity import file_checksum
from tasks.storage.file_names import is_market_file, market_of
from tasks.storage.layout import INDEX, Layout


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to fetch: these markets and these UTC days; everything if both are empty."""

    market_ids: Collection[str] = ()
    days: Collection[datetime.date] = ()

    @property
    def is_all(self) -> bool:
        """Whether everything is to be fetched."""
        return not self.market_ids and not self.days

    def rows(self, place: Place, rows: Mapping[str, IndexRow]) -> dict[str, IndexRow]:
        """Return the rows of the requested markets, and of those whose period overlaps the days. Raises StoreError."""
        spans = [Span.of_day(day) for day in self.days]
        chosen = {
            market_id: row
            for market_id, row in rows.items()
            if market_id in self.market_ids or any(span.share(row.facts) for span in spans)
        }
        if missing := sorted({*self.market_ids} - {*chosen}):
            raise StoreError(f"{place.address}: has no market {', '.join(missing[:3])}. See its {INDEX}.")
        if not chosen:
            raise StoreError(f"{place.address}: has no ticks on these days. See its {INDEX}.")
        return chosen


def fetch(place: Place, manifest: Manifest, layout: Layout, wanted: Wanted, progress: Progress) -> list[str]:
    """Fetch the files that are missing here, the index last; return their names.

    A file gets its name only when its SHA-256 matches the manifest, and gets its original modification time. If only a
    part of an export is fetched, the index lists that part. Raises StoreError, UsageError, OSError.
    """
    if INDEX not in manifest.objects:
        raise StoreError(f"{place.address}: its manifest does not list {INDEX}. Publish again.")
    refuse_other_format(manifest, layout)
    for directory in (layout.output_dir, layout.markets_dir):
        make_directory(directory)
        remove_leftovers(directory)
    names = [name for name in manifest.objects if name != INDEX]
    if wanted.is_all:
        came = bring(place, manifest.objects, layout, names, progress)
        return came + bring(place, manifest.objects, layout, [INDEX], progress)
    rows = wanted.rows(place, published_index(place, manifest, layout.output_dir))
    of_days = {
        path.name
        for day in wanted.days
        for suffix in ("csv", "parquet")
        for path in (layout.day_csv(day, suffix), layout.day_report(day, suffix))
    }
    chosen = [name for name in names if market_of(name) in rows or name in of_days]
    came = bring(place, manifest.objects, layout, chosen, progress)
    rows = {**index_csv.read(layout.index), **rows}
    content = b"".join(index_csv.render(rows))
    if not layout.index.exists() or layout.index.read_bytes() != content:
        with replacing(layout.index) as file:
            file.write(content)
        came.append(INDEX)
    return came


def published_index(place: Place, manifest: Manifest, directory: Path) -> Index:
    """Return the rows of a published index.csv. directory: where it lies meanwhile. Raises StoreError, NotAnExport."""
    path = directory / f".{INDEX}.fetched"
    try:
        _receive(place, INDEX, manifest.objects[INDEX], path)
        return index_csv.read(path)
    finally:
        path.unlink(missing_ok=True)


def refuse_other_format(manifest: Manifest, layout: Layout) -> None:
    """Raise UsageError if the directory holds market files of another format than was published."""
    theirs = {Path(name).suffix for name in manifest.objects if is_market_file(name)}
    if layout.markets_dir.is_dir():
        ours = {path.suffix for path in layout.markets_dir.iterdir() if is_market_file(path.name)}
        if theirs and ours and ours != theirs:
            raise UsageError(
                f"{layout.output_dir} holds {', '.join(sorted(ours))} files, but the published ones are"
                f" {', '.join(sorted(theirs))}. Choose another --output-dir."
            )


def bring(
    place: Place, objects: Mapping[str, Entry], layout: Layout, names: Iterable[str], progress: Progress
) -> list[str]:
    """Fetch the files with these names that are missing here, each verified; return their names.

    objects: what a manifest says of each. Raises StoreError, OSError.
    """
    missing = [name for name in names if not _is_here(layout.output_dir / name, objects[name])]
    require_room(layout.index, sum(objects[name].size_bytes for name in missing))

    def receive(name: str) -> int:
        _receive(place, name, objects[name], layout.output_dir / name)
        return objects[name].size_bytes

    transfer_all(receive, missing, progress)
    for directory in {(layout.output_dir / name).parent for name in missing}:
        flush_directory(directory)
    return missing


def _is_here(path: Path, entry: Entry) -> bool:
    """Return whether a file is the published one. Raises OSError if it cannot be read."""
    try:
        return path.stat().st_size == entry.size_bytes and file_checksum(path) == entry.checksum
    except FileNotFoundError:
        return False


def _receive(place: Place, name: str, entry: Entry, path: Path) -> None:
    make_directory(path.parent)
    with NewFile(path) as file:
        place.receive(name, file)
        if file.checksum != entry.checksum:
            raise StoreError(
                f"{place.address}: {name} has SHA-256 {file.checksum[:16]}…, its manifest says {entry.checksum[:16]}…."
                " If Publish is running, fetch again when it has ended; otherwise publish again."
            )
        file.finish(entry.modified_us)
        file.flush_to_disk()
        file.publish()
