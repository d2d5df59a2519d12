"""ConsolidateRange --store: executors make the days of a published export, and put them there."""

import contextlib
import datetime
import json
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.cluster import day_jobs, spark_cluster
from tasks.errors import SomeDaysFailed, StoreError
from tasks.spread_days import SpreadPublishedDays
from tasks.workflow import run_context
from tests.conftest import Pipeline, new_source
from tests.flow.consolidations import DAY, NEXT, beside, consolidated, report_of, with_a_large_day
from tests.flow.executors import Executors, executors
from tests.flow.google_store import GoogleStore
from tests.flow.object_store import BUCKET, Store
from tests.spark_processes import SparkCluster

TO = Store.address
RANGE = ("--from", DAY, "--to", NEXT)
CSVS = "consolidated_ticks_2026_02_05.csv", "consolidated_ticks_2026_02_06.csv"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """A folder for what executors fetch and make."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def running(scratch: Path) -> Iterator[dict[type, Store | GoogleStore]]:
    """Stores that this process and the executors know, by class."""
    stores = {Store: (one := Store()), GoogleStore: (other := GoogleStore())}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (one.environment | other.environment | {"SPARK_LOCAL_DIRS": str(scratch)}).items():
            patch.setenv(name, value)
        yield stores
    for store in stores.values():
        store.server.shutdown()
        store.server.server_close()


@pytest.fixture
def store(request, running) -> Iterator[Store | GoogleStore]:
    """A store with an empty bucket."""
    chosen = running[getattr(request, "param", Store)]
    chosen.begin()
    yield chosen
    chosen.end()


@pytest.fixture(scope="module")
def cluster(running) -> Iterator[Executors]:
    """Two executors."""
    with executors() as started:
        yield started


@pytest.fixture(scope="module")
def days(server, tmp_path_factory) -> Pipeline:
    """An export whose days ConsolidateDay has made, in a folder beside the export."""
    source = with_a_large_day(new_source(server))
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
    assert copied.run("Publish", "--offline", "--to", store.address).returncode == 0
    store.requests.clear()
    return copied


@pytest.fixture
def make(cluster: Executors, scratch: Path, monkeypatch, tmp_path):
    """Make days of a published export on the executors, which must leave nothing behind."""
    cluster.repeats, cluster.calls = False, 0
    monkeypatch.setattr(spark_cluster, "connected", cluster.connected)

    def make(store: str = TO, **options) -> None:
        run_context.begin()
        given = {"from": datetime.date.fromisoformat(DAY), "to": datetime.date.fromisoformat(NEXT)}
        SpreadPublishedDays(
            **given | {"store": store, "spark_master": "local[2]", "output_dir": str(tmp_path / "unused")} | options
        ).work()

    yield make
    assert not [*scratch.iterdir()]


def require_days(days: Pipeline, store: Store) -> None:
    """Check that the store has the days with the bytes of ConsolidateDay, and no upload that has not ended."""
    for name in CSVS:
        assert store.read(name) == (days.output_dir / name).read_bytes()
    assert not store.uploads()


@pytest.mark.parametrize(
    ("store", "part_rows", "repeats", "tasks_run"),
    [(Store, 10**9, False, 2), (Store, 45_000, True, 5), (Store, 9_000, False, 19), (GoogleStore, 45_000, True, 5)],
    indirect=["store"],
)
def test_the_days_of_a_store_have_the_bytes_of_consolidate_day(
    days, published, store, make, cluster, part_rows, repeats, tasks_run
):
    cluster.repeats = repeats
    make(store.address, part_rows=part_rows)
    assert cluster.calls == tasks_run
    require_days(days, store)
    assert json.loads(store.read("manifest.json"))["publication"] == 2
    if not repeats:
        return
    store.sent()
    again = published.run("ConsolidateRange", *RANGE, "--spark-master", "local[2]", "--store", store.address)
    assert again.returncode == 0 and f"Nothing to do: the 2 days in {store.address}" in again.stderr, again.stderr
    assert store.sent() == []
    other = beside(published, "fetched")
    for command in (("Fetch", "--from", store.address), ("VerifyExport", "--offline")):
        done = other.run(*command)
        assert done.returncode == 0, done.stderr
    for day in (DAY, NEXT):
        varying = "Duration", "File:", "Condition:"
        lines = [[line for line in report_of(one, day) if not line.startswith(varying)] for one in (other, days)]
        assert lines[0] == lines[1]


def test_a_day_is_made_again_if_its_markets_changed_and_publishing_again_takes_no_day_away(
    published, store, make, cluster
):
    make()
    assert published.run("Publish", "--offline", "--prune", "--to", TO).returncode == 0
    assert store.names() >= {"consolidated_ticks_2026_02_05.csv", "consolidation_report_2026_02_06.txt"}
    path = published.output_dir / "markets" / "marketId=1.105_metadata.json"  # has no ticks on the first day
    path.write_text(path.read_text().replace('"One"', '"Another"'))
    assert published.run("Publish", "--offline", "--to", TO).returncode == 0
    before = store.read("consolidated_ticks_2026_02_06.csv")
    store.sent()
    cluster.calls = 0
    make()
    names = [name for name in store.sent() if name.startswith("consolidat")]
    assert cluster.calls == 1 and names == ["consolidated_ticks_2026_02_06.csv", "consolidation_report_2026_02_06.txt"]
    assert store.read(names[0]) != before and len(store.read(names[0])) > len(before)
    store.remove("consolidated_ticks_2026_02_06.csv")
    make()
    assert cluster.calls == 2


def test_a_folder_is_a_store_too(days, published, make, tmp_path):
    (tmp_path / "share").mkdir()
    address = (tmp_path / "share").as_uri()
    assert published.run("Publish", "--offline", "--to", address).returncode == 0
    make(address, part_rows=9_000)
    assert not [path for path in (tmp_path / "share").iterdir() if path.name.startswith(".")]
    for name in CSVS:
        assert (tmp_path / "share" / name).read_bytes() == (days.output_dir / name).read_bytes()
    listed = json.loads((tmp_path / "share" / "manifest.json").read_text())["objects"]
    assert {name for name in listed if name.startswith("consolidat")} == {
        path.name for path in (tmp_path / "share").glob("consolidat*")
    }


def test_a_day_as_parquet_is_one_task(days, published, store, make, cluster):
    cluster.calls = 0
    make(part_rows=9_000, day_format="parquet")
    assert cluster.calls == 2
    assert days.run("ConsolidateRange", *RANGE, "--offline", "--day-format", "parquet").returncode == 0
    for name in ("consolidated_ticks_2026_02_05.parquet", "consolidated_ticks_2026_02_06.parquet"):
        assert store.read(name) == (days.output_dir / name).read_bytes()


@pytest.mark.parametrize("store", [Store, GoogleStore], indirect=True)
def test_a_day_that_fails_is_named_stops_no_other_and_leaves_nothing(days, published, store, make, caplog):
    name = "markets/marketId=1.103.parquet"  # has ticks on both days
    content = store.read(name)
    store.put(name, bytes(len(content)))
    with pytest.raises(SomeDaysFailed, match="2 days failed"):
        make(store.address, part_rows=45_000)
    assert f"{DAY}: {store.address}: {name} has SHA-256" in caplog.text and not store.uploads()
    store.put(name, content)

    store.corrupts = True  # the second part of the large day
    with pytest.raises(SomeDaysFailed, match="1 day failed"):
        make(store.address, part_rows=45_000)
    store.corrupts = False
    assert "consolidated_ticks_2026_02_05.csv" in caplog.text and not store.uploads()
    listed = json.loads(store.read("manifest.json"))["objects"]
    assert "consolidated_ticks_2026_02_06.csv" in listed and "consolidated_ticks_2026_02_05.csv" not in listed
    assert "consolidated_ticks_2026_02_05.csv" not in store.names()
    make(store.address, part_rows=45_000)
    assert store.read("consolidated_ticks_2026_02_05.csv") == consolidated(days, DAY)


def test_a_store_that_often_fails_gets_the_days_in_the_end(days, published, store, make):
    for seed in range(20):
        store.faults = random.Random(seed)
        with contextlib.suppress(SomeDaysFailed, StoreError):
            make(part_rows=9_000)
            break
        store.faults = None
        assert set(json.loads(store.read("manifest.json"))["objects"]) <= store.names()
    else:
        pytest.fail("the days were never made")
    store.faults = None
    require_days(days, store)
    assert set(json.loads(store.read("manifest.json"))["objects"]) <= store.names()


def test_a_run_that_is_interrupted_lists_what_it_has_made(published, store, make, cluster, monkeypatch):
    run = cluster.parallelize

    def second_job(calls, count):
        if cluster.calls:
            store.client().create_multipart_upload(Bucket=BUCKET, Key="exports/one/consolidated_ticks_2026_02_06.csv")
            raise KeyboardInterrupt
        return run(calls, count)

    monkeypatch.setattr(cluster, "parallelize", second_job)
    monkeypatch.setattr(day_jobs, "_MOST_DAYS", 1)  # at once
    with pytest.raises(KeyboardInterrupt):
        make()
    assert {*json.loads(store.read("manifest.json"))["made_there"]} == {
        "consolidated_ticks_2026_02_05.csv",
        "consolidation_report_2026_02_05.txt",
    }
    assert not store.uploads()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--store", TO), 2, "--store needs --spark-master"),
        (("--spark-master", "local[2]", "--store", "ftp://host"), 2, "--store is 'ftp://host', expected s3://bucket"),
        (("--spark-master", "local[2]", "--store", f"s3://{BUCKET}/no"), 35, "has no manifest.json"),
        (("--spark-master", "local[2]", "--store", "s3://another/one"), 35, "there is no such bucket"),
        (("--spark-master", "local[2]", "--store", "file:///no/such"), 35, "there is no such folder"),
    ],
)
def test_a_wrong_store_is_one_line(published, options, code, said):
    failed = published.run("ConsolidateRange", *RANGE, *options)
    assert failed.returncode == code and said in failed.stderr and failed.stderr.count("\n") == 1, failed.stderr


def test_a_day_without_ticks_is_missing_data(published, make):
    make()
    options = "--from", NEXT, "--to", "2026-02-07", "--spark-master", "local[2]", "--store", TO
    missing = published.run("ConsolidateRange", *options)
    assert missing.returncode == 20 and "There are no ticks on 2026-02-07 (UTC) in index.csv of s3://" in missing.stderr


def test_a_cluster_that_loses_an_executor_makes_the_days_of_a_store(spark, days, published, store, scratch, tmp_path):
    settings = SparkCluster.settings(tmp_path / "conf")
    with SparkCluster(memory="1g") as cluster:
        options = "ConsolidateRange", *RANGE, "--spark-master", cluster.master, "--store", TO, "--part-rows", "45000"

        def kill() -> None:
            while ("PUT", f"/{BUCKET}/exports/one/consolidated_ticks_2026_02_05.csv") not in store.requests:
                time.sleep(0.01)
            cluster.executors()[0].kill()

        killer = threading.Thread(target=kill)
        killer.start()
        done = published.run(*options, **settings)
        killer.join()
        assert done.returncode == 0, done.stderr
        require_days(days, store)
        store.remove(*CSVS)

        still = threading.Event()
        store.stills.append(still)
        done = published.run(*options, **SparkCluster.settings(tmp_path / "still"))
        still.set()
        assert done.returncode == 0, done.stderr
        assert SparkCluster.copies_in(tmp_path / "still") > 0  # Spark did not wait for the upload that stood still
        require_days(days, store)
        store.remove(*CSVS)

        store.requests.clear()
        process = published.start(*options)
        while not any(method == "PUT" for method, _ in store.requests):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        assert process.returncode == 130 and "Traceback" not in said, said
        assert not store.uploads()
    assert not [*scratch.rglob("tick-export-*")]
