"""manifest.json beside a published export: what it consists of, and what changed with the last publication."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

from tasks.errors import StoreError

NAME = "manifest.json"
VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """An object of a published export. modified_us: the file's modification time, which a fetched file gets again."""

    size_bytes: int
    checksum: str
    modified_us: int
    tag: str

    def is_same_file(self, other: "Entry") -> bool:
        """Return whether both have the same content and time, wherever they are stored."""
        return dataclasses.replace(self, tag=other.tag) == other


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a published export consists of.

    publication: counts the publications that changed something. kept: objects that the export no longer has, but the
    store still does. added, changed, withdrawn: the names that the last publication added, changed or removed.
    made_there: objects that a cluster has made of the published ones, so that no other copy of the export has them.
    """

    publication: int = 0
    objects: Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    kept: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    made_there: tuple[str, ...] = ()

    def followed_by(self, objects: Mapping[str, Entry], is_pruned: bool, made_there: Iterable[str] = ()) -> "Manifest":
        """Return the manifest of the next publication; this one if nothing changes."""
        gone = {*self.kept, *self.objects} - {*objects}
        kept = () if is_pruned else tuple(sorted(gone))
        made = tuple(sorted(made_there))
        if self.publication and (self.objects, self.kept, self.made_there) == (objects, kept, made):
            return self
        return Manifest(
            self.publication + 1,
            dict(sorted(objects.items())),
            kept,
            tuple(sorted({*objects} - {*self.objects})),
            tuple(
                sorted(
                    name
                    for name, entry in objects.items()
                    if name in self.objects and not entry.is_same_file(self.objects[name])
                )
            ),
            tuple(sorted({*self.objects} - {*objects})),
            made,
        )

    def render(self) -> bytes:
        """Return the content of manifest.json."""
        content = {"version": VERSION, **dataclasses.asdict(self)}
        if not self.made_there:
            del content["made_there"]
        return (json.dumps(content, indent=1) + "\n").encode()


def parse(address: str, content: bytes) -> Manifest:
    """Return the manifest in a file's content. Raises StoreError if it is not one."""
    try:
        found = json.loads(content)
        if found.pop("version") != VERSION:
            raise ValueError("version")
        objects = {name: Entry(**entry) for name, entry in found.pop("objects").items()}
        names = {key: tuple(found.pop(key)) for key in ("kept", "added", "changed", "withdrawn")}
        names["made_there"] = tuple(found.pop("made_there", ()))
        manifest = Manifest(found.pop("publication"), objects, **names)
        if any(not _is_safe(name) for name in (*objects, *manifest.kept)):
            raise ValueError("name")
        return manifest
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StoreError(
            f"{address}: {NAME} is not a manifest that this version of the pipeline can read. Correct the address, or"
            " update the pipeline."
        ) from None


def _is_safe(name: str) -> bool:
    """Return whether a path with this name stays below its folder."""
    return bool(name) and not name.startswith("/") and not {"", ".", ".."} & {*name.split("/")} and "\0" not in name
