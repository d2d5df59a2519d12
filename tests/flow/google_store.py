"""An object store that speaks Google's protocol, for Publish and Fetch: it can fail, hang and be counted."""

import http.server
import io
import logging
import random
import socket
import threading
import time
import urllib.parse
import urllib.request

from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

from tests.flow.object_store import BUCKET, PREFIX, SECRET


class GoogleStore:
    """A server that notes every request and can be told to misbehave. It is used as Store is."""

    address = f"gs://{BUCKET}/{PREFIX.rstrip('/')}"

    def __init__(self) -> None:
        for library in ("gcp_storage_emulator", "api"):  # they tell of each request
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self.lock = threading.Lock()  # the emulator itself serves one request after another
        self.storage = Storage(use_memory_fs=True)
        self._create_file, self.storage.create_file = self.storage.create_file, self._created
        self.requests: list[tuple[str, str]] = []
        self.refusal: tuple[str, str] | None = None
        self.faults: random.Random | None = None
        self.pause_s = 0.0
        self.corrupts = False
        self.has_own_tags = self.cuts_downloads = False
        self.is_joining = False
        self._made: list[str] = []
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *arguments: _Handler(self, self.storage, *arguments)
        )
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _created(self, bucket, name, content, described, *rest):
        """Create an object. As at Google, one of joined pieces has no MD5."""
        self._create_file(bucket, name, content, described, *rest)
        self._made.append(name)
        if self.is_joining or self.has_own_tags:
            described["md5Hash"] = None
        if self.has_own_tags:
            described["crc32c"] = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the pipeline here."""
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def begin(self) -> None:
        """Begin with an empty bucket."""
        self.storage.wipe()
        create_bucket(BUCKET, self.storage)
        self.requests.clear()
        self._made.clear()
        self.refusal = self.faults = None
        self.pause_s = 0.0
        self.corrupts = self.has_own_tags = self.cuts_downloads = False

    end = begin

    def put(self, name: str, content: bytes) -> None:
        """Replace an object."""
        path = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={urllib.parse.quote(PREFIX + name, safe='')}"
        request = urllib.request.Request(self.endpoint + path, content, method="POST")
        urllib.request.urlopen(request).close()

    def remove(self, *names: str) -> None:
        """Remove objects."""
        for name in names:
            self.storage.delete_file(BUCKET, PREFIX + name)

    def sent(self) -> list[str]:
        """Return the names of the objects that went up since the last call, in their order."""
        names = [name.removeprefix(PREFIX) for name in self._made]
        self._made.clear()
        self.requests.clear()
        return names

    def got(self) -> set[str]:
        """Return the last parts of the names of the objects that were downloaded."""
        return {
            urllib.parse.unquote(path).rpartition("/")[2]
            for method, path in self.requests
            if method == "GET" and path.startswith("/download/")
        }

    def names(self) -> set[str]:
        """Return the names of the objects that are there."""
        return {name.removeprefix(PREFIX) for name in self.storage.objects.get(BUCKET, {})}

    def uploads(self) -> list[str]:
        """Return the pieces that have not been removed."""
        return [name for name in self.names() if name.startswith(".pieces/")]

    def read(self, name: str) -> bytes:
        """Return an object."""
        return bytes(self.storage.get_file(BUCKET, PREFIX + name))


class _Handler(RequestHandler):
    """Answers a request by the emulator, into memory; what comes of it is decided here."""

    def __init__(self, store: GoogleStore, *arguments) -> None:
        self._store = store
        super().__init__(*arguments)

    def handle_one_request(self) -> None:
        """Answer a request."""
        out = self.wfile
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self.close_connection = True
        size_bytes = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size_bytes)
        if len(body) < size_bytes:
            return  # who sent it was killed
        store = self._store
        parts = urllib.parse.urlsplit(self.path)
        store.requests.append((self.command, parts.path))
        time.sleep(store.pause_s)
        fault = store.faults.random() if store.faults else 1.0
        if store.cuts_downloads and parts.path.startswith("/download/"):
            fault = 0.13
        is_chunk = "upload_id=" in parts.query
        self.wfile = io.BytesIO()
        if store.refusal:
            self._refuse(*store.refusal)
        elif fault < 0.1:
            self._refuse(("500", "503")[fault < 0.05], "")
        elif fault < 0.12 or fault < 0.15 and is_chunk:
            pass  # cut off before it is looked at: the emulator cannot take a chunk twice, as Google does
        elif self._asks_for_another_generation(parts):
            self._refuse("404", "")
        else:
            self.rfile = io.BytesIO(self._corrupted(body) if store.corrupts else body)
            with store.lock:
                store.is_joining = parts.path.endswith("/compose")
                getattr(self, f"do_{self.command}")()
        answer = self.wfile.getvalue()
        self.wfile = out
        if 0.1 <= fault < 0.15:  # cut off in the middle of the content
            answer = answer[: (answer.find(b"\r\n\r\n") + 4 + len(answer)) // 2] if answer else b""
        out.write(answer)
        out.flush()
        if 0.1 <= fault < 0.15:
            self.connection.shutdown(socket.SHUT_RDWR)

    def _refuse(self, status: str, code: str) -> None:
        self.send_response(int(status[:3]))
        text = f'{{"error": {{"code": {status[:3]}, "message": "{code} {SECRET}"}}}}'.encode()
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _asks_for_another_generation(self, parts: urllib.parse.SplitResult) -> bool:
        """Return whether a download names a generation, and it is not the one that is there."""
        wanted = urllib.parse.parse_qs(parts.query).get("generation")
        if not wanted or not parts.path.startswith("/download/"):
            return False
        found = self._store.storage.objects.get(BUCKET, {}).get(urllib.parse.unquote(parts.path.rpartition("/")[2]))
        return found is None or found["generation"] != wanted[0]

    def _corrupted(self, body: bytes) -> bytes:
        """Change a bit of a chunk that is not the first one, or of the second piece of an object."""
        if b'.0002"' not in body[:2000] and self.headers.get("Content-Range", "bytes 0-").startswith("bytes 0-"):
            return body
        at = len(body) // 2
        return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

    def send_header(self, keyword, value) -> None:
        """Leave out a checksum that there is none of."""
        if "None" not in value:
            super().send_header(keyword, value)
