"""What only Google's protocol has: pieces that the store joins, generations, credentials, and its errors."""

import gc
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tasks.errors import StoreError
from tasks.publishing import gcs_place
from tasks.publishing.place import Place, Source, open_place
from tests.conftest import Pipeline
from tests.flow.google_store import GoogleStore
from tests.flow.object_store import SECRET

TO = GoogleStore.address
# the library leaves connections that the store has cut off to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def store() -> Iterator[GoogleStore]:
    """A store with an empty bucket."""
    running = GoogleStore()
    running.begin()
    yield running
    running.end()
    running.server.shutdown()
    running.server.server_close()
    gc.collect()  # here, where the filter above applies


@pytest.fixture
def place(store, monkeypatch) -> Place:
    """The place of the store."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.endpoint)
    return open_place("--to", TO, 8)


class Received:
    """What was received. meanwhile: is called after the first bytes."""

    def __init__(self, meanwhile=lambda: None) -> None:
        self.content = b""
        self._meanwhile = meanwhile

    @property
    def size_bytes(self) -> int:
        """How much has come."""
        return len(self.content)

    def write(self, data) -> int:
        """Take the next bytes."""
        if not self.content:
            self._meanwhile()
        self.content += data
        return len(data)


def source_of(folder: Path, content: bytes) -> Source:
    """Write a file to be sent."""
    path = folder / "sent"
    path.write_bytes(content)
    return Source(path, len(content), hashlib.sha256(content).hexdigest())


def test_more_pieces_than_one_request_can_join_become_one_object(place, store, tmp_path):
    contents = [b"%d," % number * number for number in range(1, 71)]
    place.begin("day.csv")
    pieces = [
        place.add("day.csv", "", number, source_of(tmp_path, content)) for number, content in enumerate(contents, 1)
    ]
    place.add("day.csv.old", "", 1, source_of(tmp_path, b"another object's"))
    assert place.list() == {}
    whole = b"".join(contents)
    stored, checksum = place.join("day.csv", "", pieces)
    assert store.read("day.csv") == whole and checksum == hashlib.sha256(whole).hexdigest()
    assert place.join("day.csv", "", pieces) == (stored, checksum)
    assert place.list() == {"day.csv": stored}
    assert place.holds("day.csv", stored, source_of(tmp_path, whole))
    assert not place.holds("day.csv", stored, source_of(tmp_path, whole[::-1]))
    place.abandon(["day.csv.old"])
    assert len(store.uploads()) == 73
    place.abandon(["day.csv"])
    assert store.names() == {"day.csv"}
    with pytest.raises(StoreError, match="a piece of it is missing"):
        place.join("day.csv", "", pieces)
    assert store.read("day.csv") == whole


class Faults:
    """Faults in a given order, one for each request."""

    def __init__(self, *values: float) -> None:
        self._values = iter(values)

    def random(self) -> float:
        """Return what the next request meets: 500, 503, a cut, or nothing."""
        return next(self._values, 1.0)


def test_what_breaks_off_is_continued(place, store, tmp_path, monkeypatch):
    monkeypatch.setattr(gcs_place, "_RETRY", gcs_place._RETRY.with_delay(0.01, 0.01, 1))
    content = random.Random(3).randbytes(17_000_000)
    begins, first, last = (0.01, 1.0), (0.13, 0.07, 1.0), (0.11, 1.0)
    store.faults = Faults(*begins, *first, *last)
    place.send("large", source_of(tmp_path, content))
    assert store.read("large") == content and [method for method, _ in store.requests] == ["POST"] * 2 + ["PUT"] * 5
    store.requests.clear()
    store.faults = Faults(0.01, 1.0, 0.13, 0.13, 0.07, 1.0)
    received = Received()
    place.receive("large", received)
    assert received.content == content and len(store.requests) == 6
    store.faults = Faults(0.12)  # the answer is lost
    assert place.send("small", source_of(tmp_path, b"content")).size_bytes == 7 and store.sent()[-2:] == ["small"] * 2


def test_an_object_that_is_replaced_while_it_is_read_is_refused(place, store):
    store.put("one", bytes(3_000_000))
    store.cuts_downloads = True

    def replace() -> None:
        store.cuts_downloads = False
        store.put("one", b"1" * 3_000_000)

    with pytest.raises(StoreError, match="one is missing, or was replaced meanwhile"):
        place.receive("one", Received(replace))


def test_an_object_without_checksums_is_read_back(place, store, tmp_path):
    store.has_own_tags = True
    stored = place.send("one", source_of(tmp_path, b"content"))
    assert store.got() == {"one"} and place.list() == {"one": stored}
    assert place.send("one", source_of(tmp_path, b"content")).tag != stored.tag


def test_a_file_that_changes_while_it_is_sent_is_not_sent(place, store, tmp_path):
    source = source_of(tmp_path, b"content")
    source.path.write_bytes(b"another")
    with pytest.raises(StoreError, match="it changed while it was sent"):
        place.send("one", source)
    assert store.names() == set()


def account(path: Path, token_uri: str) -> str:
    """Write the key file of a service account, and return its name."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    described = {"type": "service_account", "project_id": "p", "private_key_id": SECRET, "private_key": key.decode()}
    path.write_text(json.dumps(described | {"client_email": "a@b.c", "token_uri": token_uri}))
    return str(path)


@pytest.mark.parametrize(
    ("to", "refusal", "environment", "said", "code"),
    [
        ("gs://no-such-bucket/x", None, {}, "there is no such bucket", 35),
        ("gs://-/x", None, {}, "Check the bucket's name", 35),
        (TO, ("403", "Forbidden"), {}, "no permission", 35),
        (TO, ("401", "Unauthorized"), {"GOOGLE_APPLICATION_CREDENTIALS": "KEY"}, "have expired, or were revoked", 35),
        (TO, None, {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such"}, "no credentials. Run gcloud auth", 35),
        (TO, None, {"STORAGE_EMULATOR_HOST": ""}, "no credentials. Run gcloud auth", 35),
        (TO, None, {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}, "no connection to http://127.0.0.1:9", 35),
        (TO, None, {"STORAGE_EMULATOR_HOST": "TLS"}, "does not answer with TLS", 35),
        (f"gs://key:{SECRET}@ticks/x", None, {}, "has a user or a key in its address", 2),
    ],
)
def test_a_store_that_cannot_be_used_is_one_clear_line(tmp_path, store, to, refusal, environment, said, code):
    given = dict(environment)
    if given.get("STORAGE_EMULATOR_HOST") == "TLS":
        given["STORAGE_EMULATOR_HOST"] = store.endpoint.replace("http:", "https:")
    if given.get("GOOGLE_APPLICATION_CREDENTIALS") == "KEY":
        given["GOOGLE_APPLICATION_CREDENTIALS"] = account(tmp_path / "key.json", store.endpoint + "/token")
    if "GOOGLE_APPLICATION_CREDENTIALS" in given:
        given["STORAGE_EMULATOR_HOST"] = ""
    store.refusal = refusal
    pipeline = Pipeline(tmp_path / "tick export", store.environment | {"HOME": str(tmp_path), "NO_GCE_CHECK": "true"})
    failed = pipeline.run("Fetch", "--from", to, **given)
    assert failed.returncode == code, failed.stderr
    assert said in failed.stderr and SECRET not in failed.stdout + failed.stderr, failed.stderr
    assert failed.stderr.count("\n") == 1, failed.stderr


def test_without_the_library_the_extra_is_named(tmp_path):
    (tmp_path / "google" / "cloud").mkdir(parents=True)
    (tmp_path / "google" / "__init__.py").write_text("")
    pipeline = Pipeline(tmp_path / "tick export", {"PYTHONPATH": str(tmp_path)})
    failed = pipeline.run("Fetch", "--from", TO)
    assert failed.returncode == 2 and "pip install 'betfair-tick-export[gcs]'" in failed.stderr, failed.stderr
    assert failed.stderr.count("\n") == 1
