"""Publish an export: send only what is missing or changed, the index after everything it lists, the manifest last."""

import dataclasses
from collections.abc import Mapping

from tasks.delivery import archive_file
from tasks.errors import DamagedFile, StoreError
from tasks.publishing import manifest
from tasks.publishing.manifest import Entry, Manifest
from tasks.publishing.place import Place, Source, Stored
from tasks.publishing.transfers import Progress, transfer_all
from tasks.storage.file_identity import file_checksum
from tasks.storage.layout import INDEX, Layout


@dataclasses.dataclass(frozen=True)
class Published:
    """What a publication did. sent: objects that were uploaded; removed: objects that --prune removed."""

    manifest: Manifest
    sent: tuple[str, ...]
    sent_bytes: int
    removed: tuple[str, ...]


def read_manifest(place: Place) -> Manifest | None:
    """Return the manifest of a place, None if nothing has been published. Raises StoreError."""
    content = place.read(manifest.NAME)
    return None if content is None else manifest.parse(place.address, content)


def sources_of(layout: Layout) -> dict[str, Source]:
    """Return the files of an export, the same as in an archive, with the SHA-256 that each must have, by name.

    Raises UsageError and DamagedFile as an archive does.
    """
    members, _ = archive_file.members(layout)
    return {
        member.path.relative_to(layout.output_dir).as_posix(): Source(member.path, member.size_bytes, member.checksum)
        for member in members
    }


def publish(place: Place, sources: Mapping[str, Source], is_pruned: bool, progress: Progress) -> Published:
    """Send files to a place and write its manifest, if anything is new.

    An object that already has the right content is not sent, whether a manifest lists it or not, so an interrupted
    publication continues where it stopped. is_pruned: objects that earlier manifests list and the export no longer has
    are removed, after the new index is in place. What a cluster has made there stays, as long as it is there. Raises
    StoreError, DamagedFile, OSError.
    """
    before = read_manifest(place) or Manifest()
    there = place.list()
    made_there = [name for name in before.made_there if name not in sources and _is_there(before, there, name)]
    objects = {name: before.objects[name] for name in made_there}
    sent: list[str] = []

    def bring(name: str) -> int:
        source = sources[name]
        modified_us = source.path.stat().st_mtime_ns // 1000
        known, found = before.objects.get(name), there.get(name)
        if found is None or not _is_in_place(place, name, source, known, found):
            _require_checksum(source)
            found = place.send(name, source)
            sent.append(name)
        objects[name] = Entry(source.size_bytes, source.checksum, modified_us, found.tag)
        return source.size_bytes

    transfer_all(bring, (name for name in sources if name != INDEX), progress)
    if INDEX in sources:
        progress(bring(INDEX))
    after = before.followed_by(objects, is_pruned, made_there)
    removed = tuple(sorted({*before.kept, *before.objects} - {*objects})) if is_pruned else ()
    for name in removed:
        place.remove(name)
    if after != before:
        place.write(manifest.NAME, after.render())
    return Published(after, tuple(sorted(sent)), sum(sources[name].size_bytes for name in sent), removed)


def _is_there(before: Manifest, there: Mapping[str, Stored], name: str) -> bool:
    """Return whether an object is the one that a manifest lists."""
    entry = before.objects.get(name)
    return entry is not None and there.get(name) == Stored(entry.size_bytes, entry.tag)


def _is_in_place(place: Place, name: str, source: Source, known: Entry | None, found: Stored) -> bool:
    """Return whether the object equals the file: it is still the one in the manifest, or has the file's content."""
    if found.size_bytes != source.size_bytes:
        return False
    if known is not None and known.tag == found.tag:
        return known.checksum == source.checksum
    return place.holds(name, found, source)


def _require_checksum(source: Source) -> None:
    """Raise DamagedFile if a file does not match index or report: such a file is never published."""
    found = file_checksum(source.path)
    if found != source.checksum:
        raise DamagedFile(
            f"{source.path}: its SHA-256 is {found[:16]}…, expected {source.checksum[:16]}…. Restore the file, or run"
            " ExportAll with the database to repair it. What was published stays as it is."
        )


def require_manifest(place: Place) -> Manifest:
    """Return the manifest of a place. Raises StoreError if nothing was published."""
    found = read_manifest(place)
    if found is None:
        raise StoreError(f"{place.address}: has no {manifest.NAME}, so nothing was published there. Check the address.")
    return found
