"""A luigid that is not there, or is something else: one line and 35, before anything is done."""

import contextlib
import socket
import threading
import time

import luigi.rpc
import pytest

import tasks.every_task  # noqa: F401  (Luigi knows the tasks that are loaded)
from tasks.errors import NoScheduler
from tasks.workflow import luigid
from tests.luigid_process import running_luigid


def http(status, body):
    """Return a service that answers each request so."""

    def answer(client):
        client.recv(65536)
        client.sendall(f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    return answer


def silent(client):
    """Answer nothing until the client leaves."""
    while client.recv(65536):
        pass


def slow(client):
    """Answer a byte now and then, without an end."""
    client.sendall(b"HTTP/1.0 200 OK\r\nX: ")
    while True:
        client.sendall(b"x")
        time.sleep(0.1)


def of_another_kind(client):
    """Answer as an SSH server does."""
    client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def closing(client):
    """Answer nothing at all."""


SERVICES = {
    "HTTP 500": (http("500 Internal Server Error", "{}"), "HTTP status 500"),
    "HTTP 404": (http("404 Not Found", ""), "HTTP status 404"),
    "a page": (http("200 OK", "<html>Welcome</html>"), "the server there is not a luigid"),
    "another JSON": (http("200 OK", '{"response": [1]}'), "the server there is not a luigid"),
    "a list": (http("200 OK", "[]"), "the server there is not a luigid"),
    "silent": (silent, "no answer"),
    "slow": (slow, "no answer"),
    "SSH": (of_another_kind, ""),
    "closing": (closing, ""),
}


@contextlib.contextmanager
def serving(answer):
    """Serve on the loopback; give the address."""

    def serve(client):
        with client, contextlib.suppress(OSError):
            answer(client)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listening.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def nobody():
    """The address of a port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(params=[True, False], ids=["requests", "urllib"])
def library(request, monkeypatch):
    """Which of its two HTTP libraries Luigi uses: requests where it is installed."""
    monkeypatch.setattr(luigi.rpc, "HAS_REQUESTS", request.param)
    monkeypatch.setattr(luigid, "_WITHIN_S", 1.0)


@pytest.mark.parametrize("service", SERVICES)
def test_another_service_is_told_from_a_luigid(library, service):
    answer, reason = SERVICES[service]
    with serving(answer) as url, pytest.raises(NoScheduler) as raised:
        luigid.connect(url)
    assert str(raised.value).startswith(f"No luigid at {url}: {reason}") or reason in str(raised.value)
    assert "Max retries" not in str(raised.value) and "object at 0x" not in str(raised.value)


def test_nobody_there_and_no_such_host(library, nobody):
    with pytest.raises(NoScheduler, match=f"No luigid at {nobody}: Connection refused. Start luigid"):
        luigid.connect(nobody)
    with pytest.raises(NoScheduler, match="No luigid at http://luigid.invalid:8082: [A-Z]"):
        luigid.connect("http://name:secret@luigid.invalid:8082")


def test_a_black_hole(library):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        with contextlib.ExitStack() as waiting:
            for _ in range(4):  # a full backlog: Linux answers no further SYN
                client = waiting.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(address)
            with pytest.raises(NoScheduler, match="no answer"):
                luigid.connect(f"http://127.0.0.1:{address[1]}")


@pytest.mark.parametrize("task", ["ExportAll", "nightly"])
def test_a_run_without_its_luigid_ends_with_one_line_and_makes_nothing(pipeline, nobody, task):
    result = pipeline.run(task, "--scheduler-url", nobody)
    assert result.returncode == 35
    assert result.stderr.startswith(f"error: No luigid at {nobody}: Connection refused.")
    assert result.stderr.count("\n") == 1
    bare = pipeline.run("ExportAll", "--scheduler-url", nobody, luigi=True)
    assert bare.returncode == 35 and bare.stderr == result.stderr
    assert not list(pipeline.output_dir.rglob("*.parquet"))


@pytest.mark.parametrize("address", ["127.0.0.1:8082", "http://", "ftp://luigid:8082", "http://luigid:99999"])
def test_what_is_no_address_is_wrong_usage(pipeline, address):
    result = pipeline.run("ExportAll", "--scheduler-url", address)
    assert result.returncode == 2
    assert (
        result.stderr
        == f"error: --scheduler-url is {address}, expected an address such as http://luigid.example:8082.\n"
    )


def test_a_luigid_lost_under_way_ends_the_run_in_one_line_and_the_next_completes(pipeline, small, tmp_path):
    settings = tmp_path / "luigi.cfg"
    settings.write_text("[core]\nrpc-retry-wait = 1\n")
    with contextlib.closing(small.server.connect(small.name)) as session, session.cursor() as cursor:
        with running_luigid(tmp_path) as url:
            cursor.execute("LOCK TABLE public.markets IN ACCESS EXCLUSIVE MODE")
            process = pipeline.start("ExportAll", "--scheduler-url", url, LUIGI_CONFIG_PATH=str(settings))
            while not small.query(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ):
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
        session.rollback()
    said = process.communicate()[1]
    assert process.returncode == 35 and "Traceback" not in said, said
    assert f"\nerror: No luigid at {url}: Connection refused." in said
    assert pipeline.run("ExportAll").returncode == 0
