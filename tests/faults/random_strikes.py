"""Kill runs and cut their connections at random moments, on a database of any size:

    POSTGRES_DB=netbet POSTGRES_USER=... python -m tests.faults.random_strikes --kills 100 --cuts 50

Each strike hits an export, a day or an archive. What has its final name afterwards must have the bytes of an
undisturbed run. After every few strikes a plain run must complete the rest, with the same bytes and without leftovers.
Ends with 1 if anything differs. No ticks may arrive meanwhile.
"""

import argparse
import dataclasses
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.conftest import Pipeline
from tests.faults.hindrances import kill_session
from tests.faults.proxy import StrikingProxy

#: So many strikes hit the same directory before a plain run completes it.
_STRIKES_IN_A_ROW = 4
#: In the name of an archive.
_DATE = re.compile(r"_[0-9]{8}\.")
#: What states times, durations or the state of an unfinished run.
_OF_THE_RUN = (
    "execution_report",
    "consolidation_report",
    "verification_report",
    "report.html",
    "metrics.prom",
    "manifest",
)


@dataclasses.dataclass
class Job:
    """A command that is struck. seconds, received: what it took undisturbed; files: the checksums of what it wrote."""

    arguments: tuple[str, ...]
    pipeline: Pipeline
    seconds: float = 0
    received: int = 0
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    starts_from: Path | None = None

    @property
    def name(self) -> str:
        """Its task."""
        return self.arguments[0]

    def reset(self) -> None:
        """Bring everything back to before the command."""
        folder = self.pipeline.output_dir.parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.starts_from is not None:
            shutil.copytree(self.starts_from, self.pipeline.output_dir, copy_function=shutil.copy2)

    def leftovers(self) -> list[Path]:
        """Return the temporary files."""
        return list(self.pipeline.output_dir.parent.rglob("*.tmp"))


def found(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of all below a folder that has a final name, by its path; of archives, of what is in them, by
    a path without the date.
    """
    return {
        _DATE.sub("_D.", name): hashlib.sha256(content).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        for name, content in contents(path, str(path.relative_to(folder)))
        if not Path(name).name.startswith(_OF_THE_RUN)
    }


def contents(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield a file, or the files in an archive, by name."""
    if path.suffix == ".sha256":  # of an archive whose reports state times: assert_sums looks at it
        return
    if path.suffix == ".gz":
        with tarfile.open(path) as archive:
            for member in archive:
                yield f"{name}/{member.name}", archive.extractfile(member).read()  # type: ignore[union-attr]
    else:
        yield name, path.read_bytes()


def assert_sums(folder: Path) -> None:
    """Have sha256sum check what the pipeline has written for it. Only a finished run promises that it agrees."""
    for path in folder.glob("*.sha256"):
        subprocess.run(["sha256sum", "--check", "--quiet", path.name], cwd=path.parent, check=True)


def undisturbed(job: Job, host: str, port: int) -> None:
    """Run a job without a strike; note what it took and wrote."""
    job.reset()
    with StrikingProxy(port, host=host) as proxy:
        began = time.monotonic()
        result = job.pipeline.run(*job.arguments, POSTGRES_HOST="127.0.0.1", POSTGRES_PORT=str(proxy.port))
        job.seconds, job.received = time.monotonic() - began, proxy.passed
    if result.returncode:
        sys.exit(f"{job.name} ended with {result.returncode}: {result.stderr}")
    job.files = found(job.pipeline.output_dir.parent)


def struck_by_kill(job: Job) -> str:
    """Start the job and kill all its processes after a random time; return what happened."""
    process = job.pipeline.start(*job.arguments)
    deadline = time.monotonic() + random.uniform(0, job.seconds)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    was_running = process.poll() is None
    kill_session(process)
    process.stderr.close()  # type: ignore[union-attr]
    return "killed" if was_running else "ended before"


def struck_by_cut(job: Job, host: str, port: int) -> str:
    """Run the job over a connection that is cut after a random number of bytes; return how it ended."""
    with StrikingProxy(port, int(job.received * random.uniform(0, 1)), "cut", host) as proxy:
        result = job.pipeline.run(*job.arguments, POSTGRES_HOST="127.0.0.1", POSTGRES_PORT=str(proxy.port))
    if result.returncode not in (0, 30, 35) or "Traceback" in result.stderr:
        return f"WRONG END {result.returncode}: {result.stderr}"
    return f"exit {result.returncode}"


def differences(job: Job, is_over: bool) -> Iterator[str]:
    """Yield where the files differ from the undisturbed run's. is_over: after a plain run, nothing may be missing."""
    there = found(job.pipeline.output_dir.parent)
    for name, checksum in there.items():
        of_all = name.endswith(("index.csv", "condition.json"))  # of an unfinished run: of what there was
        if job.files.get(name) != checksum and (is_over or not of_all):
            yield f"{name}: not the bytes of the undisturbed run"
    if is_over:
        yield from (f"{name}: missing" for name in job.files.keys() - there.keys())
        yield from (f"{path}: left over" for path in job.leftovers())
        assert_sums(job.pipeline.output_dir.parent)


def strike(job: Job, kind: str, count: int, host: str, port: int) -> tuple[Counter[str], list[str]]:
    """Strike a job so often; return how the strikes ended, and everything that is wrong. Strikes that come too late do
    not count.
    """
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    in_a_row = 0
    job.reset()
    while ends.total() < count:
        end = struck_by_kill(job) if kind == "kill" else struck_by_cut(job, host, port)
        is_late = end in ("ended before", "exit 0")
        wrong += [end] if end.startswith("WRONG") else []
        wrong += differences(job, is_over=is_late)
        if not is_late:
            ends[end.split(":")[0]] += 1
            in_a_row += 1
        if in_a_row == _STRIKES_IN_A_ROW or ends.total() == count:
            last = job.pipeline.run(*job.arguments)
            wrong += [f"the plain run ended with {last.returncode}: {last.stderr}"] if last.returncode else []
            wrong += differences(job, is_over=True)
            is_late = True
        if is_late:
            job.reset()
            in_a_row = 0
        print(f"\r{job.name}, {kind} {ends.total()} of {count}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return ends, wrong


def fullest_day(export: Path) -> str:
    """Return the UTC day with the most messages in an export."""
    days: Counter[str] = Counter()
    for path in export.glob("markets/*.parquet"):
        times = pq.read_table(path, columns=["publish_time"]).column(0)
        for pair in pc.value_counts(pc.strftime(times, "%Y-%m-%d")).to_pylist():
            days[pair["values"]] += pair["counts"]
    return days.most_common(1)[0][0]


def main() -> int:
    """Strike; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="default 100, half of them on the export")
    parser.add_argument("--cuts", type=int, default=50, help="default 50, half of them on the export")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments, which also depend on the machine")
    options = parser.parse_args()
    random.seed(options.seed)
    host, port = os.environ.get("POSTGRES_HOST", "127.0.0.1"), int(os.environ.get("POSTGRES_PORT", "5432"))
    environment = {name: value for name, value in os.environ.items() if name.startswith("POSTGRES_")}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="strikes") as folder:

        def job(name: str, *arguments: str) -> Job:
            return Job(arguments, Pipeline(Path(folder) / name / "out", environment))

        export = job("export", "ExportAll", "--workers", "2")
        undisturbed(export, host, port)
        kept = Path(folder) / "exported"
        shutil.copytree(export.pipeline.output_dir, kept, copy_function=shutil.copy2)
        day = job("day", "ConsolidateDay", "--date", fullest_day(kept), "--workers", "2")
        archive = job("archive", "Archive", "--workers", "2")
        archive.starts_from = kept
        for each in (day, archive):
            undisturbed(each, host, port)
        for kind, total in (("kill", options.kills), ("cut", options.cuts)):
            for each, share in ((export, total // 2), (day, total // 4), (archive, total - total // 2 - total // 4)):
                if share:
                    ends, differing = strike(each, kind, share, host, port)
                    wrong += differing
                    told = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
                    print(f"{each.name}, {share} x {kind} ({told}): {len(differing)} differences")
    print("\n".join(wrong) if wrong else "No difference.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
