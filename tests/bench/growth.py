"""How time and memory of ExportAll grow with rows and with markets: the exponent b of a·n^b, fitted through the
medians.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.bench.export_contenders import parquet_facts
from tests.bench.measure import Contender, Sample, pipeline
from tests.bench.source import Source

FIRST, AGAIN = "first run", "nothing to do"


def contenders(sources: Sequence[tuple[str, int, Source]]) -> list[Contender]:
    """Return a first run for each source of (what grows, how large, source), and for markets a second run with
    nothing to do.
    """
    result = []
    for axis, size, source in sources:
        command = pipeline("ExportAll", "--workers", str(os.cpu_count()), "--output-dir", "export")
        for kind in (FIRST, AGAIN) if axis == "markets" else (FIRST,):

            def facts(work: Path, source: Source = source) -> dict[str, object]:
                return {"expected": source.facts(), "found": parquet_facts(work, "export/markets/*.parquet")}

            def take_over(work: Path, first: str = f"{axis} {size} {FIRST}".replace(" ", "_")) -> None:
                shutil.rmtree(work)
                (work.parent / first).rename(work)

            again = kind == AGAIN
            result.append(
                Contender(
                    f"{axis} {size} {kind}",
                    [command],
                    facts,
                    dict(source.environment),
                    ours=True,
                    size=size,
                    prepare=take_over if again else None,
                    keep_output=axis == "markets" and not again,
                )
            )
    return result


def exponents(samples: Sequence[Sample], contenders: Sequence[Contender]) -> dict[str, dict[str, float]]:
    """Return for each series the fitted exponents of time and memory, and those between its two largest sizes."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for contender in contenders:
        own = [sample for sample in samples if sample.contender == contender.name]
        axis, kind = contender.name.split(" ")[0], " ".join(contender.name.split(" ")[2:])
        series.setdefault(f"{axis}, {kind}", []).append(
            (
                contender.size,
                float(np.median([sample.wall_s for sample in own])),
                float(np.median([sample.peak_bytes for sample in own])),
            )
        )
    result = {}
    for name, points in series.items():
        size, wall, peak = np.log(np.array(sorted(points))).T
        if len(points) > 1:
            result[name] = {
                "time": float(np.polyfit(size, wall, 1)[0]),
                "memory": float(np.polyfit(size, peak, 1)[0]),
                "time, last step": float((wall[-1] - wall[-2]) / (size[-1] - size[-2])),
                "memory, last step": float((peak[-1] - peak[-2]) / (size[-1] - size[-2])),
            }
    return result
