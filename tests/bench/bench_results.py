"""What was measured as a table, a picture and JSON, with versions and machine."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.bench.measure import Contender, Sample, say

_PACKAGES = (
    "luigi",
    "pyarrow",
    "numpy",
    "pandas",
    "adbc-driver-postgresql",
    "duckdb",
    "polars",
    "chdb",
    "connectorx",
    "psycopg2-binary",
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A contender in the table. ratio: its median to that of the limit, or else of the fastest contender that is not
    ours.
    """

    contender: str
    median_s: float
    spread: tuple[float, float]
    ratio: float
    rows_per_s: float
    peak_bytes: int
    cpu_s: float
    server_cpu_s: float | None
    output_bytes: int


def lines(samples: Sequence[Sample], contenders: Sequence[Contender], rows: Mapping[str, int]) -> list[Line]:
    """Return a line for each contender that ran; rows: how many each had to produce, by its name."""
    of = {
        contender.name: [sample for sample in samples if sample.contender == contender.name] for contender in contenders
    }
    medians = {name: statistics.median(sample.wall_s for sample in own) for name, own in of.items() if own}
    limits = [medians[contender.name] for contender in contenders if contender.is_limit and contender.name in medians]
    others = [medians[contender.name] for contender in contenders if not contender.ours and contender.name in medians]
    base = min(limits or others or list(medians.values()))
    result = []
    for name, median in medians.items():
        own = of[name]
        walls, server = (
            [sample.wall_s for sample in own],
            [sample.server_cpu_s for sample in own if sample.server_cpu_s is not None],
        )
        result.append(
            Line(
                name,
                median,
                (min(walls), max(walls)),
                median / base,
                rows[name] / median,
                max(sample.peak_bytes for sample in own),
                statistics.median(sample.cpu_s for sample in own),
                statistics.median(server) if server else None,
                own[-1].output_bytes,
            )
        )
    return result


def table(found: Sequence[Line], contenders: Sequence[Contender]) -> str:
    """Return the table in Markdown."""
    text = [
        "| contender | median s | spread s | ratio | M rows/s | peak GB | CPU s | server CPU s | output MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in found:
        server = "" if line.server_cpu_s is None else f"{line.server_cpu_s:.1f}"
        text.append(
            f"| {line.contender} | {line.median_s:.2f} | {line.spread[0]:.2f} – {line.spread[1]:.2f} | {line.ratio:.2f}"
            f" | {line.rows_per_s / 1e6:.2f} | {line.peak_bytes / 1e9:.2f} | {line.cpu_s:.1f} | {server} |"
            f" {line.output_bytes / 1e6:,.0f} |"
        )
    text += [
        f"| {contender.name} | not available: {contender.missing.replace('|', ' ')} | | | | | | | |"
        for contender in contenders
        if contender.missing
    ]
    return "\n".join(text)


def machine() -> dict[str, object]:
    """Return versions and machine."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        model = next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    return {
        "when": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def write(
    output: Path,
    group: str,
    about: Mapping[str, object],
    contenders: Sequence[Contender],
    samples: Sequence[Sample],
    rows: Mapping[str, int],
    fitted: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Write <group>.md, .json and .png into a directory; return the Markdown."""
    found = lines(samples, contenders, rows)
    text = [f"# {group}: {about['what']}", "", table(found, contenders), ""]
    if fitted:
        text += [
            "Exponent b of a·n^b, fitted through the medians, and between the two largest sizes:",
            "",
            "| series | time | memory | time, last step | memory, last step |",
            "|---|---|---|---|---|",
            *(
                f"| {name} | "
                + " | ".join(f"{fit[key]:.2f}" for key in ("time", "memory", "time, last step", "memory, last step"))
                + " |"
                for name, fit in fitted.items()
            ),
            "",
        ]
    limit = any(contender.is_limit for contender in contenders)
    text += [
        "ratio: to the median of " + ("the limit." if limit else "the fastest contender that is not ours."),
        (
            "peak GB: the largest sum of PSS over the process tree in any round (a page that n processes share counts"
            " 1/n in each; RSS is looked at every 20 ms, PSS when RSS rises and twice a second). CPU s: the process"
            " tree, without PostgreSQL."
        ),
        "",
        *(f"- {key}: {value}" for key, value in about.items()),
    ]
    output.joinpath(f"{group}.md").write_text("\n".join(text) + "\n")
    output.joinpath(f"{group}.json").write_text(
        json.dumps(
            {
                "about": about,
                "lines": [dataclasses.asdict(line) for line in found],
                "exponents": fitted,
                "missing": {contender.name: contender.missing for contender in contenders if contender.missing},
                "samples": [dataclasses.asdict(sample) for sample in samples],
            },
            indent=1,
            default=str,
        )
        + "\n"
    )
    _picture(output / f"{group}.png", f"{group}: {about['what']}", found, contenders, samples)
    return "\n".join(text)


def _picture(
    path: Path, title: str, found: Sequence[Line], contenders: Sequence[Contender], samples: Sequence[Sample]
) -> None:
    try:
        import matplotlib
    except ImportError:
        say(f"  no picture {path.name}: pip install matplotlib")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    ours = {contender.name for contender in contenders if contender.ours}
    colours = ["tab:blue" if line.contender in ours else "tab:grey" for line in found]
    figure, (time, memory) = pyplot.subplots(
        1, 2, figsize=(12, 1.2 + 0.45 * len(found)), sharey=True, layout="constrained"
    )
    names = [line.contender for line in found]
    time.barh(names, [line.median_s for line in found], color=colours)
    time.plot([sample.wall_s for sample in samples], [sample.contender for sample in samples], "k|", markersize=9)
    time.set_xlabel("seconds: median, and every round")
    memory.barh(names, [line.peak_bytes / 1e9 for line in found], color=colours)
    memory.set_xlabel("peak memory of the process tree, GB")
    time.invert_yaxis()
    if any(contender.size for contender in contenders):
        time.set_xscale("log")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
