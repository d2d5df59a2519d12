"""Publish and Fetch, against a server that speaks S3's protocol: what goes up, in which order, and what faults do."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pipeline, Source, fill
from tests.flow.google_store import GoogleStore
from tests.flow.object_store import BUCKET, SECRET, Store

TO = Store.address
#: Runs a test with S3's protocol and with Google's.
both_stores = pytest.mark.parametrize("store", [Store, GoogleStore], indirect=True)


@pytest.fixture
def store(request) -> Iterator[Store | GoogleStore]:
    """A store with an empty bucket."""
    running = getattr(request, "param", Store)()
    running.begin()
    yield running
    running.end()
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def exported(source: Source, store: Store, tmp_path: Path) -> Pipeline:
    """An export with a consolidated day, where the store is known."""
    pipeline = Pipeline(tmp_path / "tick export", fill(source).environment | store.environment)
    assert pipeline.run("ConsolidateDay", "--date", "2026-02-05").returncode == 0
    assert pipeline.run("ExportAll").returncode == 0
    return pipeline


def fetched(pipeline: Pipeline, *options: str) -> Pipeline:
    """Fetch into a folder beside the export."""
    other = Pipeline(pipeline.output_dir.with_name("fetched"), pipeline.environment)
    done = other.run("Fetch", *options)
    assert done.returncode == 0, done.stderr
    return other


def assert_same(pipeline: Pipeline, other: Pipeline) -> None:
    """Compare two exports: names, contents, modification times."""
    files = other.files()
    files.pop("verification_report.txt", None)
    assert files == pipeline.files()
    for name in pipeline.files():
        times = [(one.output_dir / name).stat().st_mtime_ns // 1000 for one in (pipeline, other)]
        assert times[0] == times[1], name


@both_stores
def test_an_export_comes_back_as_it_was_and_only_what_changed_goes_up(exported, store, source):
    assert exported.run("Publish", "--to", store.address).returncode == 0
    sent = store.sent()
    assert sent[-2:] == ["index.csv", "manifest.json"] and {*sent[:-2]} | {"index.csv"} >= {*exported.files()}
    other = fetched(exported, "--from", store.address)
    assert_same(exported, other)
    assert other.run("VerifyExport", "--offline").returncode == 0

    store.sent()
    again = exported.run("Publish", "--to", store.address)
    assert again.returncode == 0 and store.sent() == [] and " 0 sent" in again.stderr

    source.message("1.101", "2026-02-05 15:00:00+00")
    assert exported.run("ExportAll").returncode == 0
    assert exported.run("Publish", "--to", store.address).returncode == 0
    sent = store.sent()
    reports = {"execution_report.txt", "report.html", "condition.json"}
    assert {*sent} == {"markets/marketId=1.101.parquet", "index.csv", "manifest.json"} | reports
    manifest = json.loads(store.read("manifest.json"))
    assert manifest["publication"] == 2 and {*manifest["changed"]} == {*sent} - {"manifest.json"}
    assert manifest["added"] == manifest["withdrawn"] == []
    store.requests.clear()
    assert_same(exported, fetched(exported, "--from", store.address))
    assert store.got() == {"manifest.json", "index.csv", "marketId=1.101.parquet"} | reports


@both_stores
def test_an_object_that_was_replaced_or_removed_in_the_store_is_sent_again(exported, store):
    assert exported.run("Publish", "--offline", "--to", store.address).returncode == 0
    name = "markets/marketId=1.102.parquet"
    damaged = bytes(len(store.read(name)))
    store.put(name, damaged)
    store.remove("markets/marketId=1.103.parquet")
    store.sent()
    failed = Pipeline(exported.output_dir.with_name("fetched"), exported.environment).run(
        "Fetch", "--from", store.address
    )
    assert failed.returncode == 30 and "1.10" in failed.stderr
    assert not (exported.output_dir.with_name("fetched") / name).exists()
    assert exported.run("Publish", "--offline", "--to", store.address).returncode == 0
    assert {*store.sent()} == {name, "markets/marketId=1.103.parquet"}
    assert_same(exported, fetched(exported, "--from", store.address))


def test_what_is_gone_stays_unless_pruned_and_other_objects_are_never_touched(exported, store):
    assert exported.run("Publish", "--offline", "--to", TO).returncode == 0
    store.client().put_object(Bucket=BUCKET, Key="exports/one/notes.txt", Body=b"mine")
    gone = {path.name for path in exported.output_dir.glob("consolidat*")}
    for name in gone:
        (exported.output_dir / name).unlink()
    assert exported.run("Publish", "--offline", "--to", TO).returncode == 0
    assert gone < store.names() and {*json.loads(store.read("manifest.json"))["withdrawn"]} == gone
    assert_same(exported, fetched(exported, "--from", TO))
    assert exported.run("Publish", "--offline", "--prune", "--to", TO).returncode == 0
    assert not gone & store.names() and "notes.txt" in store.names()


def test_some_markets_or_days_come_as_an_export_of_their_own(exported, store):
    assert exported.run("Publish", "--offline", "--to", TO).returncode == 0
    other = fetched(exported, "--from", TO, "--markets", "1.102")
    assert [path.name for path in (other.output_dir / "markets").glob("*.parquet")] == ["marketId=1.102.parquet"]
    assert other.run("VerifyExport", "--offline").returncode == 0
    other = fetched(exported, "--from", TO, "--days", "2026-02-05")
    assert (other.output_dir / "consolidated_ticks_2026_02_05.csv").exists()
    assert other.run("VerifyExport", "--offline").returncode == 0
    none = other.run("Fetch", "--from", TO, "--markets", "1.999")
    assert none.returncode == 30 and "has no market 1.999" in none.stderr


@pytest.mark.parametrize(
    ("store", "is_corrupted"), [(Store, False), (Store, True), (GoogleStore, True)], indirect=["store"]
)
def test_an_object_of_many_parts_is_compared_after_it_arrived(exported, store, is_corrupted):
    name = "accepted_losses.csv"  # goes up as it is, whatever is in it
    content = random.Random(7).randbytes(70_000_000)
    (exported.output_dir / name).write_bytes(content)
    store.corrupts = is_corrupted
    done = exported.run("Publish", "--offline", "--to", store.address)
    parts = [path for method, path in store.requests if method == "PUT" and path.endswith(name)]
    if is_corrupted:
        assert done.returncode == 30 and name in done.stderr and "not arrive as" in done.stderr, done.stderr
        assert "manifest.json" not in store.names() and "index.csv" not in store.names()
        store.corrupts = False
        done = exported.run("Publish", "--offline", "--to", store.address)
    else:
        assert len(parts) == 2
    assert done.returncode == 0, done.stderr
    assert store.read(name) == content
    store.sent()
    assert exported.run("Publish", "--offline", "--to", store.address).returncode == 0 and store.sent() == []
    assert (fetched(exported, "--from", store.address).output_dir / name).read_bytes() == content


def test_an_object_whose_tag_is_no_md5_is_read_back(exported, store):
    store.has_own_tags = True
    done = exported.run("Publish", "--offline", "--to", TO)
    assert done.returncode == 0, done.stderr
    read = {path for method, path in store.requests if method == "GET"}
    assert {f"/{BUCKET}/exports/one/{name}" for name in exported.files()} <= read
    store.has_own_tags = False
    assert_same(exported, fetched(exported, "--from", TO))


def test_a_damaged_file_is_never_published(exported, store):
    assert exported.run("Publish", "--offline", "--to", TO).returncode == 0
    path = exported.market("1.101")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    stat = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    store.remove(f"markets/{path.name}")
    store.sent()
    failed = exported.run("Publish", "--offline", "--to", TO)
    assert failed.returncode == 30 and "its SHA-256 is" in failed.stderr and path.name in failed.stderr
    assert store.sent() == []


@both_stores
def test_faults_of_the_store_and_kills_leave_no_row_without_its_object(exported, store):
    seeded = random.Random(21)
    for number in range(5):
        store.faults = random.Random(number)
        store.pause_s = 0.02
        store.requests.clear()
        below = f"{number // 2}/"  # every second run resumes the one before
        last = seeded.randint(2, 14)  # the request that the run does not outlive
        process = exported.start("Publish", "--offline", "--to", f"{store.address}/{below}")
        while len(store.requests) < last and process.poll() is None:
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        store.faults = None
        store.pause_s = 0.0
        there = {name.removeprefix(below) for name in store.names() if name.startswith(below)}
        if "index.csv" in there:
            listed = re.findall(r"markets/marketId=[0-9.]+\.parquet", store.read(f"{below}index.csv").decode())
            assert listed and {*listed} <= there
    store.faults = random.Random(99)
    done = exported.run("Publish", "--offline", "--to", f"{store.address}/{below}")
    assert done.returncode == 0, done.stderr
    assert_same(exported, fetched(exported, "--from", f"{store.address}/{below}"))


def test_a_publication_that_was_broken_off_sends_no_object_twice(exported, store):
    assert exported.run("Publish", "--offline", "--to", TO).returncode == 0
    first = store.sent()
    store.remove("manifest.json", "index.csv", "markets/marketId=1.103.parquet")
    assert exported.run("Publish", "--offline", "--to", TO).returncode == 0
    assert store.sent() == ["markets/marketId=1.103.parquet", "index.csv", "manifest.json"] and len(first) > 6


@pytest.mark.parametrize(
    ("to", "refusal", "environment", "said", "code"),
    [
        ("s3://no-such-bucket/x", None, {}, "there is no such bucket", 35),
        (TO, ("403 Forbidden", "AccessDenied"), {}, "no permission", 35),
        (TO, ("400 Bad Request", "ExpiredToken"), {}, "have expired", 35),
        (TO, ("403 Forbidden", "SignatureDoesNotMatch"), {}, "secret key", 35),
        (TO, None, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no connection to http://127.0.0.1:9", 35),
        (TO, None, {"AWS_ENDPOINT_URL": "TLS"}, "does not answer with TLS", 35),
        (TO, None, {"AWS_ACCESS_KEY_ID": "", "HOME": "/", "AWS_EC2_METADATA_DISABLED": "true"}, "no credentials", 35),
        (f"s3://key:{SECRET}@{BUCKET}/x", None, {}, "has a user or a key in its address", 2),
        ("ftp://somewhere/x", None, {}, "expected s3://bucket/prefix, gs://bucket/prefix or file", 2),
        ("file:///no/such/folder", None, {}, "there is no such folder", 35),
    ],
)
def test_a_store_that_cannot_be_used_is_one_clear_line(tmp_path, store, to, refusal, environment, said, code):
    pipeline = Pipeline(tmp_path / "tick export", store.environment)
    store.refusal = refusal
    if environment.get("AWS_ENDPOINT_URL") == "TLS":
        environment = {"AWS_ENDPOINT_URL": store.endpoint.replace("http:", "https:")}
    for task in (("Publish", "--offline", "--to", to), ("Fetch", "--from", to)):
        failed = pipeline.run(*task, **environment)
        assert failed.returncode == code, failed.stderr
        assert said in failed.stderr and "Traceback" not in failed.stderr
        assert SECRET not in failed.stdout + failed.stderr
        assert failed.stderr.count("\n") == 1


def test_a_folder_serves_as_well(exported):
    folder = exported.output_dir.with_name("share")
    folder.mkdir()
    assert exported.run("Publish", "--offline", "--to", folder.as_uri()).returncode == 0
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    assert exported.run("Publish", "--offline", "--to", folder.as_uri()).returncode == 0
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before
    assert_same(exported, fetched(exported, "--from", folder.as_uri()))
    shutil.copyfile(folder / "index.csv", folder / "markets" / "marketId=1.101.parquet")
    assert exported.run("Publish", "--offline", "--to", folder.as_uri()).returncode == 0
    shutil.rmtree(exported.output_dir.with_name("fetched"))
    assert_same(exported, fetched(exported, "--from", folder.as_uri()))
