"""ConsolidateRange --store: executors make the days of a published export, and put them there."""

import datetime
import json
import shutil
from collections.abc import Iterator

import pytest

from tasks.cluster import spark_cluster
from tasks.cluster.published_days import together
from tasks.errors import SomeDaysFailed
from tasks.market_files.time_span import Span
from tasks.spread_days import SpreadPublishedDays
from tasks.workflow import run_context
from tests.conftest import Pipeline, Source, fill, new_source
from tests.flow.consolidations import DAY, NEXT, beside, consolidated, report_of
from tests.flow.executors import Executors, executors
from tests.flow.object_store import BUCKET, Store

TO = f"s3://{BUCKET}/exports/one"
RANGE = ("--from", DAY, "--to", NEXT)


@pytest.fixture(scope="module")
def running() -> Iterator[Store]:
    """A store that this process and the executors know."""
    store = Store()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        yield store
    store.server.shutdown()
    store.server.server_close()


@pytest.fixture
def store(running: Store) -> Iterator[Store]:
    """The store with an empty bucket."""
    running.inner.app_instances.clear()
    client = running.client()
    client.create_bucket(Bucket=BUCKET)
    yield running
    running.refusal = running.faults = None
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture(scope="module")
def cluster(running: Store) -> Iterator[Executors]:
    """Two executors."""
    with executors() as started:
        yield started


def large(source: Source) -> Source:
    """Give a source a day of 18 MB, and markets that were open on it, one with and one without ticks."""
    fill(source)
    source.partition("2026-02-04")
    for market_id in ("1.105", "1.106"):
        source.market(market_id)
        source.message(market_id, "2026-02-04 12:00:00+00")
        source.message(market_id, "2026-02-06 12:00:00+00")
    source.message("1.106", f"{DAY} 12:00:00+00")
    source.query(
        "INSERT INTO stream_ingest.ladder_levels SELECT '1.101', 1 + n % 2, side, 0, 2 + (n % 50) / 100.0, 5 + n % 7,"
        f" timestamptz '{DAY} 06:00+00' + n * interval '1 s', timestamptz '{DAY} 06:00+00' + n * interval '1.0001 s'"
        " FROM generate_series(0, 59999) AS n, unnest(ARRAY['B', 'L']) AS side"
    )
    return source


@pytest.fixture(scope="module")
def days(server, tmp_path_factory) -> Pipeline:
    """An export whose days ConsolidateDay has made, in a folder beside the export."""
    source = large(new_source(server))
    pipeline = Pipeline(tmp_path_factory.mktemp("store") / "tick export", source.environment)
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.run("ConsolidateRange", *RANGE, "--offline").returncode == 0
    return pipeline


@pytest.fixture
def published(days, store, tmp_path) -> Pipeline:
    """An export without days that is published."""
    copied = Pipeline(tmp_path / "tick export", days.environment | store.environment)
    shutil.copytree(days.output_dir, copied.output_dir)
    for path in copied.output_dir.glob("consolidat*"):
        path.unlink()
    assert copied.run("Publish", "--offline", "--to", TO).returncode == 0
    store.requests.clear()
    return copied


@pytest.fixture
def make(cluster: Executors, monkeypatch, tmp_path):
    """Make days of a published export on the executors."""
    cluster.repeats = False
    monkeypatch.setattr(spark_cluster, "connected", cluster.connected)

    def make(store: str = TO, **options) -> None:
        run_context.begin()
        given = {"from": datetime.date.fromisoformat(DAY), "to": datetime.date.fromisoformat(NEXT)}
        SpreadPublishedDays(
            **given | {"store": store, "spark_master": "local[2]", "output_dir": str(tmp_path / "unused")} | options
        ).work()

    return make


def uploads(store: Store) -> list[str]:
    """Return the multipart uploads that have not ended."""
    return [upload["Key"] for upload in store.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())]


def fetched(pipeline: Pipeline, address: str = TO) -> Pipeline:
    """Fetch into a folder beside the export, and verify it."""
    other = beside(pipeline, "fetched")
    for command in (("Fetch", "--from", address), ("VerifyExport", "--offline")):
        done = other.run(*command)
        assert done.returncode == 0, done.stderr
    return other


@pytest.mark.parametrize(
    ("part_rows", "repeats", "tasks_run"), [(10**9, False, 2), (45_000, True, 5), (9_000, False, 18)]
)
def test_the_days_of_a_store_have_the_bytes_of_consolidate_day(
    days, published, store, make, cluster, part_rows, repeats, tasks_run
):
    cluster.repeats, cluster.calls = repeats, 0
    make(part_rows=part_rows)
    assert cluster.calls == tasks_run
    assert not uploads(store)
    other = fetched(published)
    for day in (DAY, NEXT):
        assert consolidated(other, day) == consolidated(days, day)
        varying = "Duration", "File:", "Condition:"
        lines = [[line for line in report_of(one, day) if not line.startswith(varying)] for one in (other, days)]
        assert lines[0] == lines[1]
    assert json.loads(store.read("manifest.json"))["publication"] == 2
    store.sent()
    again = published.run("ConsolidateRange", *RANGE, "--spark-master", "local[2]", "--store", TO)
    assert again.returncode == 0 and f"Nothing to do: the 2 days in {TO}" in again.stderr, again.stderr
    assert store.sent() == []
