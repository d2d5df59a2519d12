"""A JSONL export as one compressed file: the pipeline beside tar -czf and pigz."""

import datetime
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import pyarrow as pa

import tasks
from tests.bench.measure import Contender, pipeline

FORMATS = ("tar.gz", "tar.zst", "zip")
#: A run's, not the export's: not delivered.
METRICS = "metrics.prom"
_DATE = datetime.date(2024, 1, 15)


def contenders(export_dir: Path) -> list[Contender]:
    """Return all contenders for an archive of an export. Ours reads every file against its checksum on the way."""
    parent, name = export_dir.parent, export_dir.name
    tar = ["tar", "-C", str(parent), "--exclude=.*", f"--exclude={METRICS}"]
    result = [
        Contender("tar -czf", [[*tar, "-czf", "peer.tar.gz", name]], lambda work: _inside(work / "peer.tar.gz")),
        Contender(
            "tar with pigz",
            [[*tar, "--use-compress-program=pigz", "-cf", "peer.tar.gz", name]],
            lambda work: _inside(work / "peer.tar.gz"),
            missing="" if shutil.which("pigz") else "no pigz on the PATH",
        ),
    ]
    missing = "" if "Archive" in tasks.PUBLIC else "this version has no task Archive"
    for format in FORMATS:
        archive = parent / f"{name}_{_DATE:%Y%m%d}.{format}"

        command = pipeline(
            "Archive",
            "--offline",
            "--output-dir",
            str(export_dir),
            "--date",
            str(_DATE),
            "--archive-format",
            format,
            "--workers",
            str(os.cpu_count()),
        )
        result.append(
            Contender(
                f"pipeline: Archive {format}",
                [command],
                partial(_archive_facts, archive),
                writes=[archive, archive.with_name(f"{archive.name}.sha256")],
                missing=missing,
                ours=True,
            )
        )
    return result


def need_bytes(export_dir: Path) -> int:
    """Return how much disk an archive takes at most."""
    return sum(path.stat().st_size for path in export_dir.rglob("*") if path.is_file()) + 100_000_000


def on_disk(export_dir: Path) -> dict[str, object]:
    """Return what an archive of an export has to hold."""
    sizes = [
        path.stat().st_size
        for path in export_dir.rglob("*")
        if path.is_file()
        and path.name != METRICS
        and not any(part.startswith(".") for part in path.relative_to(export_dir).parts)
    ]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _archive_facts(archive: Path, _: Path) -> dict[str, object]:
    return _inside(archive)


def _inside(archive: Path) -> dict[str, object]:
    sizes = list(_sizes(archive))
    return {"files": len(sizes), "bytes": sum(sizes)}


def _sizes(archive: Path) -> Iterator[int]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            yield from (entry.file_size for entry in file.infolist() if not entry.is_dir())
        return
    stream: IO[bytes] = pa.CompressedInputStream(pa.OSFile(str(archive)), "gzip" if archive.suffix == ".gz" else "zstd")
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        yield from (entry.size for entry in tar if entry.isfile())
