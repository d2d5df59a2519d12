"""The benchmark at a tiny size, so that it still runs when it is wanted."""

import json
import subprocess
import sys

import pytest

from tests.bench import bench_results, growth
from tests.bench.__main__ import main
from tests.bench.measure import (
    ROOT,
    BenchError,
    Contender,
    Sample,
    measure_run,
    require_free,
    require_same,
    run_in_turn,
)

_GROWN = """
import subprocess, sys, time
block = bytearray(b"x") * 80_000_000
hold = "import time; block = bytearray(b'x') * 80_000_000; time.sleep(1.5)"
child = [sys.executable, "-c", hold] if sys.argv[1:] else ["true"]
subprocess.run(child, check=True)
time.sleep(0.5)
"""


def _sample(name="a", wall_s=1.0, peak_bytes=1, **facts):
    return Sample(name, 1, wall_s, 1.0, None, peak_bytes, 0, facts)


def _results(tmp_path, group):
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("work")] == []
    return json.loads((tmp_path / f"{group}.json").read_text()), (tmp_path / f"{group}.md").read_text()


def _run(tmp_path, group, rows, markets, only):
    """Run a benchmark once and return its results."""
    size = ["--rows", str(rows), "--markets", str(markets), "--rounds", "1"]
    assert main([group, *size, "--only", only, "--output", str(tmp_path)]) == 0
    return _results(tmp_path, group)


def test_export_beside_its_limit_and_a_peer(tmp_path):
    found, text = _run(tmp_path, "export", 3_000, 8, "limit,ExportAll,adbc")
    ours = ["pipeline: ExportAll", "pipeline: ExportAll --report false"]
    names = ["limit: psql COPY", *ours, "adbc, one file per market"]
    assert [sample["contender"] for sample in found["samples"]] == names
    assert {sample["facts"]["rows"] for sample in found["samples"]} == {found["about"]["rows"]}
    assert found["about"]["rows"] > 1000
    assert [line["ratio"] == 1 for line in found["lines"]] == [True, False, False, False]
    assert all(f"| {name} |" in text for name in names)
    for line in found["lines"][1:]:
        assert line["peak_bytes"] > 50e6 and line["cpu_s"] > 0.1 and line["output_bytes"] > 1000


def test_peers_do_not_pay_for_the_pipelines_start():
    loaded = "import sys, tests.bench.export_peers, tests.bench.consolidate_peers; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", loaded], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert {"tests.bench.export_peers", "tests.bench.consolidate_peers"} <= set(modules)
    assert not {"tasks", "luigi", "pandas", "pyarrow", "duckdb"} & set(modules)


def test_a_day_beside_duckdb(tmp_path):
    found, _ = _run(tmp_path, "consolidate", 20_000, 5, "pipeline,duckdb")
    assert len(found["lines"]) == 2 and found["about"]["sorted"] == "True" and int(found["about"]["rows"]) > 10_000


def test_archive_beside_tar(tmp_path):
    found, _ = _run(tmp_path, "archive", 3_000, 8, "tar -czf,Archive")
    assert found["samples"][0]["facts"] == {"files": found["about"]["files"], "bytes": found["about"]["bytes"]}


def test_growth(tmp_path):
    assert (
        main(
            [
                "growth",
                "--growth-rows",
                "2e3",
                "--growth-markets",
                "5,10",
                "--markets",
                "5",
                "--rounds",
                "1",
                "--output",
                str(tmp_path),
            ]
        )
        == 0
    )
    found, _ = _results(tmp_path, "growth")
    assert set(found["exponents"]) == {"markets, first run", "markets, nothing to do"}
    assert [sample["facts"]["found"] == sample["facts"]["expected"] for sample in found["samples"]] == [True] * 5


def test_contenders_run_in_turn_each_into_an_empty_directory(tmp_path):
    def facts(work):
        (work / "left").touch(exist_ok=False)
        return {"round": None}

    elsewhere = tmp_path / "written"
    contenders = [
        Contender("a", [["touch", str(elsewhere)]], facts, writes=[elsewhere]),
        Contender("b", [["true"]], facts),
        Contender("c", [["false"]], facts, missing="no c here"),
    ]
    samples = run_in_turn(contenders, tmp_path, 2, lambda: None, 0)
    assert [(sample.contender, sample.round) for sample in samples] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert list(tmp_path.iterdir()) == []


def test_the_exponent_is_that_of_the_measurements():
    sizes = [100, 1_000, 10_000]
    contenders = [Contender(f"rows {size} first run", [], lambda _: {}, size=size) for size in sizes]
    samples = [_sample(f"rows {size} first run", wall_s=3e-5 * size**1.5, peak_bytes=7 * size) for size in sizes]
    assert growth.exponents(samples, contenders)["rows, first run"] == pytest.approx(
        {"time": 1.5, "memory": 1, "time, last step": 1.5, "memory, last step": 1}
    )


def test_other_rows_are_no_result():
    require_same([_sample(rows=2), _sample("b", rows=2)])
    with pytest.raises(BenchError, match="b did not produce the same rows: .*3.*expected .*2"):
        require_same([_sample(rows=2), _sample("b", rows=3)])
    with pytest.raises(BenchError, match="expected .*1"):
        require_same([_sample(rows=2)], {"rows": 1})


def test_the_median_and_its_ratio_to_the_limit():
    contenders = [Contender("limit", [], lambda _: {}, is_limit=True), Contender("other", [], lambda _: {})]
    samples = [
        _sample(name, wall_s) for name, walls in (("limit", (2, 1, 9)), ("other", (6, 5, 1))) for wall_s in walls
    ]
    limit, other = bench_results.lines(samples, contenders, {"limit": 10, "other": 10})
    assert (limit.median_s, limit.spread, limit.rows_per_s) == (2, (1, 9), 5)
    assert (other.median_s, other.ratio) == (5, 2.5)


@pytest.mark.parametrize("arguments, least, most", [([], 80, 130), (["child"], 165, 230)])
def test_memory_is_that_of_the_whole_process_tree(tmp_path, arguments, least, most):
    work = tmp_path / "work"
    work.mkdir()
    grown = Contender("grown", [[sys.executable, "-c", _GROWN, *arguments]], lambda _: {})
    assert least * 1e6 < measure_run(grown, work, 1, lambda: None).peak_bytes < most * 1e6


def test_a_contender_that_fails_is_named_with_its_last_words(tmp_path):
    (tmp_path / "work").mkdir()
    failing = Contender("failing", [[sys.executable, "-c", "import sys; sys.exit('no such table')"]], lambda _: {})
    with pytest.raises(BenchError, match="failing ended with exit code 1: no such table"):
        measure_run(failing, tmp_path / "work", 1, lambda: None)


def test_a_full_disk_is_noticed_before(tmp_path):
    with pytest.raises(BenchError, match="GB free, this needs about 1000000.0 GB"):
        require_free(tmp_path, 10**15)
