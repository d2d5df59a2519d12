"""A clock that is an hour, a day or a month wrong, by libfaketime: nothing is lost, and no day is over before it is.

Only this machine's clock is wrong; the earlier of both clocks decides. With the right one the next run completes.
"""

import datetime
import glob

import pytest

from tests.conftest import Pipeline, ago

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") or glob.glob("/usr/lib/faketime/libfaketimeMT.so.1")
OFFSETS = {"-30d": -30 * 24, "-1d": -24, "-1h": -1, "+1h": 1, "+1d": 24, "+30d": 30 * 24}  # hours
QUICK = ("-1d", "+30d")

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="no libfaketime here (Debian: libfaketime)")


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_wrong_clock_loses_nothing(request, pipeline, small, tmp_path, offset):
    if offset not in QUICK and not request.config.getoption("--walk"):
        pytest.skip("part of the walk")
    wrong = {"LD_PRELOAD": LIBRARIES[0], "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    for day in (ago(1), ago(0)):
        small.partition(day)
    small.message("1.103", f"{ago(1)} 23:00:00+00")
    small.query(  # a market that is being recorded, whatever the hour
        "INSERT INTO stream_ingest.ladder_levels VALUES ('1.102', 9, 'B', 0, 2, 3, now() - interval '1 second', now())"
    )
    done = pipeline.run("ExportAll", **wrong)
    assert done.returncode == 0 and "The clock of the database server is" in done.stderr, done.stderr
    for days in (0, 1):  # a day is over when it is over by both clocks
        consolidated = pipeline.run("ConsolidateDay", "--date", ago(days), **wrong)
        earlier = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=min(0, OFFSETS[offset]))
        is_over = ago(days) < str(earlier.date())
        assert consolidated.returncode == (0 if is_over else 2), consolidated.stderr
        assert "Traceback" not in consolidated.stderr
    small.query("UPDATE stream_ingest.ladder_levels SET size = 77 WHERE selection_id = 9")  # of the newest message
    small.message("1.103", f"{ago(1)} 23:30:00+00")
    for task in (("ExportAll",), ("ConsolidateDay", "--date", ago(1)), ("VerifyExport",)):
        done = pipeline.run(*task)
        assert done.returncode == 0, done.stderr
    pipeline.output_dir.joinpath("verification_report.txt").unlink()
    undisturbed = Pipeline(tmp_path / "undisturbed", pipeline.environment)
    for task in (("ExportAll",), ("ConsolidateDay", "--date", ago(1))):
        assert undisturbed.run(*task).returncode == 0
    left = {name: text for name, text in pipeline.files().items() if "report" not in name}
    assert left == {name: text for name, text in undisturbed.files().items() if "report" not in name}
    assert not list(pipeline.output_dir.rglob("*.tmp"))
