"""A pooler between pipeline and server: the same bytes, or one line that says what to set in it."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2
import pytest

from tasks.demo import server_programs
from tests.conftest import Pipeline, fresh
from tests.faults.pooler import PoolerProxy

_PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
_DAY = ("--date", "2026-02-05")


@contextlib.contextmanager
def bouncer(source, pool_mode):
    """Run PgBouncer before a source's server; yield its port."""
    account = server_programs.account()
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer"))
    directory.chmod(0o755)
    port = server_programs.free_port()
    settings = directory / "pgbouncer.ini"
    settings.write_text(f"""[databases]
{source.name} = host={source.server.socket_dir} port={source.server.port} user={source.server.superuser}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {pool_mode}
""")
    settings.chmod(0o644)
    process = subprocess.Popen(
        [_PGBOUNCER, str(settings)], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **account
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(psycopg2.Error):
                psycopg2.connect(host="127.0.0.1", port=port, dbname=source.name, user="anyone").close()
                break
            time.sleep(0.05)
        assert process.poll() is None, "pgbouncer does not start"
        yield port
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory)


def test_it_connects_where_options_are_refused(pipeline, small):
    expected = fresh(pipeline)
    with PoolerProxy(small.server.port) as proxy:
        with pytest.raises(psycopg2.OperationalError, match="unsupported startup parameter: options"):
            psycopg2.connect(
                host="127.0.0.1", port=proxy.port, dbname=small.name, user="postgres", options="-c jit=off"
            )
        assert len(proxy.refused) == 1
        through = {"POSTGRES_PORT": str(proxy.port), "PGOPTIONS": "-c search_path=public,stream_ingest -c work_mem=8MB"}
        run = pipeline.run("ExportAll", **through)
        assert run.returncode == 0, run.stderr
        assert pipeline.files() == expected
        assert pipeline.run("VerifyExport", **through).returncode == 0
        assert len(proxy.refused) == 1, proxy.refused


def test_statement_pooling_is_named(pipeline, small):
    with PoolerProxy(small.server.port, transactions=False) as proxy:
        run = pipeline.run("ExportAll", POSTGRES_PORT=str(proxy.port))
    assert run.returncode == 35 and "Traceback" not in run.stderr, run.stderr
    assert "pooler in statement mode" in run.stderr and "pool_mode = transaction" in run.stderr


@pytest.mark.skipif(_PGBOUNCER is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
def test_the_same_bytes_by_pgbouncer(pipeline, small, pool_mode):
    expected = fresh(pipeline)
    day = Pipeline(pipeline.output_dir.parent / "day", small.environment)
    direct = Pipeline(pipeline.output_dir.parent / "direct", small.environment)
    for each, task in ((day, "ConsolidateDay"), (direct, "ConsolidateDayDirect")):
        assert each.run(task, *_DAY).returncode == 0
    with bouncer(small, pool_mode) as port:
        through = {"POSTGRES_PORT": str(port)}
        run = pipeline.run("ExportAll", "--workers", "2", **through)
        assert run.returncode == 0, run.stderr
        assert pipeline.files() == expected
        assert pipeline.run("VerifyExport", **through).returncode == 0
        for each, task in ((day, "ConsolidateDay"), (direct, "ConsolidateDayDirect")):
            name = "consolidated_ticks_2026_02_05.csv"
            before = (each.output_dir / name).read_bytes()
            shutil.rmtree(each.output_dir)
            run = each.run(task, *_DAY, **through)
            assert run.returncode == 0, run.stderr
            assert (each.output_dir / name).read_bytes() == before


@pytest.mark.skipif(_PGBOUNCER is None, reason="pgbouncer is not installed")
def test_statement_pooling_of_pgbouncer_is_named(pipeline, small):
    with bouncer(small, "statement") as port:
        run = pipeline.run("ExportAll", POSTGRES_PORT=str(port))
    assert run.returncode == 35 and "Traceback" not in run.stderr, run.stderr
    assert "pooler in statement mode" in run.stderr
