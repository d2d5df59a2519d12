"""List an output directory: the files that belong to the export, those set aside, and strays."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from tasks.errors import DamagedFile, NewerVersion
from tasks.export_directory import market_states, metadata_json
from tasks.storage.file_names import is_aside, is_consolidated, market_of
from tasks.storage.layout import Layout


@dataclasses.dataclass(frozen=True)
class Inventory:
    """Names relative to the output directory, sorted. files: with their size in bytes; aside: damaged files that were
    kept; without_file: metadata and states of markets without a market file, for example because their export failed;
    strays: files and directories that do not belong to the export, including symbolic links.
    """

    files: dict[str, int]
    aside: list[str]
    strays: list[str]
    without_file: list[str] = dataclasses.field(default_factory=list)


def take_inventory(layout: Layout, market_ids: Iterable[str], with_streams: bool = False) -> Inventory:
    """List an output directory whose index has these markets. Hidden files (locks, journals, temporary files) are left
    out, and so are stream files unless with_streams.
    """
    known = {path.name for path in layout.own_files} | {f"{layout.states_dir.name}/{layout.results.name}"}
    for market_id in market_ids:
        known |= {
            f"{layout.markets_dir.name}/{path.name}"
            for path in (layout.market_file(market_id), layout.metadata_file(market_id))
        }
        known |= {path.relative_to(layout.output_dir).as_posix() for path in layout.derived_files(market_id)}
    # none of them is part of the export, and none a stray
    beside = {path.name for path in (layout.plots_dir, layout.verification_report, layout.metrics)}
    files: dict[str, int] = {}
    aside, strays, without_file = [], [], []
    below = [layout.markets_dir, layout.states_dir, layout.streams_dir]
    looked_into = below if with_streams else below[:2]
    for directory, prefix in (
        (layout.output_dir, ""),
        *((directory, f"{directory.name}/") for directory in looked_into),
    ):
        if not directory.is_dir():
            continue
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            name = prefix + entry.name
            if entry.name.startswith(".") or name in beside:
                continue
            if any(name == path.name for path in below) and entry.is_dir():  # on another disk by a link, maybe
                continue
            if entry.is_file(follow_symlinks=False) and (name in known or not prefix and is_consolidated(name)):
                files[name] = entry.stat().st_size
            elif is_aside(entry.name):
                aside.append(name)
            elif _speaks_of_a_market(layout, layout.output_dir / name):
                without_file.append(name)
            else:
                strays.append(name)
    return Inventory(dict(sorted(files.items())), aside, strays, without_file)


def _speaks_of_a_market(layout: Layout, path: Path) -> bool:
    """Return whether a file is metadata or states as written by BuildMetadata or BuildStates."""
    market_id = market_of(path.name)
    if not market_id or path.is_symlink() or not path.is_file():
        return False
    try:
        if path == layout.metadata_file(market_id):
            known = metadata_json.parse(path.read_bytes())
            return known is not None and str(known["marketId"]) == market_id
        if path == layout.states_file(market_id):
            return market_states.read_table(path).column("market_id").unique().to_pylist() in ([], [market_id])
    except NewerVersion:
        return True
    except (DamagedFile, OSError):
        pass
    return False


def describe(path: Path) -> str:
    """Return what is at a path, in a few words."""
    if path.is_symlink():
        return f"a symbolic link to {os.readlink(path)}"
    return "a directory" if path.is_dir() else "a file" if path.exists() else "nothing"
