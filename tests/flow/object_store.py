"""An object store that speaks S3's protocol, for Publish and Fetch: it can fail, hang and be counted."""

import io
import random
import socket
import threading
import time

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET, PREFIX, SECRET = "ticks", "exports/one/", "never-to-be-seen"


class Quiet(WSGIRequestHandler):
    """A handler that logs nothing."""

    def log_request(self, code="-", size="-"):
        """Do nothing."""


class Store:
    """An S3 server that notes every request and can be told to misbehave."""

    address = f"s3://{BUCKET}/{PREFIX.rstrip('/')}"

    def __init__(self) -> None:
        self.inner = DomainDispatcherApplication(create_backend_app)
        self.requests: list[tuple[str, str]] = []
        self.refusal: tuple[str, str] | None = None
        self.faults: random.Random | None = None
        self.pause_s = 0.0
        #: The next PUT requests get no answer as long as these are not set, and then an error.
        self.stills: list[threading.Event] = []
        self.corrupts = False
        self.has_own_tags = False
        self.server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self.endpoint = f"http://127.0.0.1:{self.server.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __call__(self, environ, start_response):
        time.sleep(self.pause_s)
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if self.refusal:
            status, code = self.refusal
            start_response(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()]
        if self.stills and environ["REQUEST_METHOD"] == "PUT":
            self.stills.pop().wait()
            start_response("503 Slow Down", [])
            return [b""]
        fault = self.faults.random() if self.faults else 1.0
        if fault < 0.1:
            start_response(("500 Internal Error", "503 Slow Down")[fault < 0.05], [])
            return [b""]
        if fault < 0.15:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        if self.corrupts and "partNumber=2" in environ["QUERY_STRING"]:
            sent = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            at = len(sent) // 2
            environ["wsgi.input"] = io.BytesIO(sent[:at] + bytes([sent[at] ^ 1]) + sent[at + 1 :])

        def start(status, headers, *rest):
            own = [(key, value[::-1] if key == "ETag" and self.has_own_tags else value) for key, value in headers]
            return start_response(status, own, *rest)

        return self.inner(environ, start)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the pipeline here."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def begin(self) -> None:
        """Begin with an empty bucket."""
        self.inner.app_instances.clear()
        self.client().create_bucket(Bucket=BUCKET)
        self.requests.clear()

    def end(self) -> None:
        """Remove the bucket."""
        self.refusal = self.faults = None
        client = self.client()
        for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])
        client.delete_bucket(Bucket=BUCKET)

    def put(self, name: str, content: bytes) -> None:
        """Replace an object."""
        self.client().put_object(Bucket=BUCKET, Key=PREFIX + name, Body=content)

    def got(self) -> set[str]:
        """Return the last parts of the names of the objects that were downloaded."""
        return {path.rpartition("/")[2] for method, path in self.requests if method == "GET"}

    def client(self):
        """Return a client of the store."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="key",
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def sent(self) -> list[str]:
        """Return the names of the objects that went up since the last call, in their order."""
        names = [path.removeprefix(f"/{BUCKET}/{PREFIX}") for method, path in self.requests if method == "PUT"]
        self.requests.clear()
        return names

    def names(self) -> set[str]:
        """Return the names of the objects that are there."""
        found = self.client().list_objects_v2(Bucket=BUCKET).get("Contents", ())
        return {entry["Key"].removeprefix(PREFIX) for entry in found}

    def read(self, name: str) -> bytes:
        """Return an object."""
        return self.client().get_object(Bucket=BUCKET, Key=PREFIX + name)["Body"].read()

    def remove(self, *names: str) -> None:
        """Remove objects."""
        for name in names:
            self.client().delete_object(Bucket=BUCKET, Key=PREFIX + name)

    def uploads(self) -> list[str]:
        """Return the keys of the multipart uploads that have not ended."""
        return [upload["Key"] for upload in self.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())]
