"""The database as operators have it: wherever tables are, whoever hides rows, an export is complete or an error."""

import dataclasses

import pytest

from tasks.errors import DatabaseError
from tasks.exporting import survey
from tasks.postgres import stored_sums
from tasks.postgres.database import Database, Table
from tasks.postgres.server import Server
from tasks.postgres.source_tables import LADDER
from tasks.storage.layout import Layout
from tasks.verification import export_check
from tests.conftest import Pipeline, Source, index_of, reader
from tests.flow.refusals import refusal


@pytest.mark.parametrize(
    ("table", "policy"),
    [
        ("traded_volume", True),
        ("ladder_levels", True),
        ("ladder_20260205", True),
        ("ladder_20260205", False),
        ("market_lifecycle_events", False),
    ],
)
def test_row_security_that_applies_is_an_error(small, table, policy):
    environment = reader(small)
    small.query(f"ALTER TABLE stream_ingest.{table} ENABLE ROW LEVEL SECURITY")
    if policy:
        small.query(f"CREATE POLICY most ON stream_ingest.{table} USING (market_id <> '1.101')")
    said = refusal(environment)
    assert "row-level security hides rows of" in said and f"stream_ingest.{table}" in said
    Database(Server.from_environment(small.environment)).close()  # to the owner no policy applies


def test_row_security_that_comes_during_a_run_is_an_error_too(pipeline, small):
    pipeline.environment = reader(small)
    server = Server.from_environment(pipeline.environment)
    with Database(server) as database:
        small.query("ALTER TABLE stream_ingest.traded_volume ENABLE ROW LEVEL SECURITY")
        with pytest.raises(DatabaseError, match="row-level security"):
            database.query("SELECT count(*) FROM stream_ingest.traded_volume")
    assert pipeline.run("ExportAll").returncode == 35


def test_all_missing_grants_at_once(small):
    role = f"few_{small.name}"
    small.server.create_role(role, "secret")
    small.query("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    small.query(f"GRANT SELECT ON public.markets, stream_ingest.ladder_levels TO {role}")
    said = refusal(small.environment | {"POSTGRES_USER": role, "POSTGRES_PASSWORD": "secret"})
    for name in ("schema public", "stream_ingest", "public.runners", "stream_ingest.traded_volume"):
        assert name in said
    grants = said.split("owner run: ")[1]
    small.query(grants)
    Database(
        Server.from_environment(small.environment | {"POSTGRES_USER": role, "POSTGRES_PASSWORD": "secret"})
    ).close()


def test_a_partition_that_is_a_foreign_table_is_exported(pipeline, small):
    small.query("""ALTER TABLE stream_ingest.ladder_levels DROP CONSTRAINT ladder_levels_pkey;
           CREATE EXTENSION postgres_fdw;
           CREATE SCHEMA archive;
           CREATE TABLE archive.ladder (LIKE stream_ingest.ladder_levels INCLUDING ALL);
           INSERT INTO archive.ladder SELECT '1.777', 7, side, level, price, size,
                  publish_time - interval '9 days', received_time
             FROM stream_ingest.ladder_levels WHERE market_id = '1.103'""")
    where = small.environment
    small.query(f"""CREATE SERVER archive FOREIGN DATA WRAPPER postgres_fdw
                OPTIONS (host '{where["POSTGRES_HOST"]}', port '{where["POSTGRES_PORT"]}', dbname '{small.name}');
            CREATE USER MAPPING FOR PUBLIC SERVER archive
                OPTIONS (user '{where["POSTGRES_USER"]}', password '{where["POSTGRES_PASSWORD"]}');
            CREATE FOREIGN TABLE stream_ingest.ladder_archive PARTITION OF stream_ingest.ladder_levels
                FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-02-01 00:00+00') SERVER archive
                OPTIONS (schema_name 'archive', table_name 'ladder')""")
    done = pipeline.run("ExportAll")
    assert done.returncode == 0, done.stderr
    assert int(index_of(pipeline)["1.777"]["total_tick_records"]) == 4
    assert sum(int(row["total_tick_records"]) for row in index_of(pipeline).values()) == small.ticks()
    verified = pipeline.run("VerifyExport")
    assert verified.returncode == 0, verified.stderr
    pipeline.market("1.777").unlink()
    assert "1.777" in pipeline.run("VerifyExport").stderr, "its market is looked for in the archive"
    day = pipeline.run("ConsolidateDayDirect", "--date", "2026-01-27")
    assert day.returncode == 0, day.stderr
    assert b"1.777" in (pipeline.output_dir / "consolidated_ticks_2026_01_27.csv").read_bytes()


def test_a_foreign_table_views_and_children_by_inheritance(pipeline, small):
    small.query("""CREATE TABLE stream_ingest.traded_child () INHERITS (stream_ingest.traded_volume);
           INSERT INTO stream_ingest.traded_child SELECT '1.103', 1, 3.5, 7, publish_time, received_time
             FROM stream_ingest.ladder_levels WHERE market_id = '1.103' LIMIT 1""")
    done = pipeline.run("ExportAll")
    assert done.returncode == 0, done.stderr
    assert sum(int(row["total_tick_records"]) for row in index_of(pipeline).values()) == small.ticks()
    small.query("ALTER TABLE stream_ingest.traded_volume RENAME TO real_volume")
    small.query("CREATE MATERIALIZED VIEW stream_ingest.traded_volume AS SELECT * FROM stream_ingest.real_volume")
    assert "stream_ingest.traded_volume is not a table" in refusal(small.environment)


class TestWhereTheTablesAre:
    def test_some_in_the_other_schema(self, pipeline: Pipeline, small: Source) -> None:
        expected = pipeline.run("ExportAll")
        assert expected.returncode == 0
        files = pipeline.files()
        small.query(
            "ALTER TABLE stream_ingest.traded_volume SET SCHEMA public;"
            "ALTER TABLE stream_ingest.market_lifecycle_events SET SCHEMA public;"
            "ALTER TABLE stream_ingest.ladder_levels DROP COLUMN ingest_source"
        )
        moved = Pipeline(pipeline.output_dir.with_name("moved"), small.environment)
        done = moved.run("ExportAll")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("traded_volume is read from public.traded_volume") == 1
        assert moved.files() == files
        assert moved.run("VerifyExport").returncode == 0

    def test_all_in_one_schema_that_only_the_path_names(self, small: Source, pipeline: Pipeline) -> None:
        small.query("ALTER SCHEMA stream_ingest RENAME TO recorder; ALTER TABLE public.markets SET SCHEMA recorder")
        assert "has no table public.markets" in refusal(small.environment)
        done = pipeline.run("ExportAll", PGOPTIONS="-c search_path=public,recorder")
        assert done.returncode == 0, done.stderr
        assert sorted(index_of(pipeline)) == ["1.101", "1.102", "1.103"]

    def test_rows_left_behind(self, pipeline: Pipeline, small: Source) -> None:
        small.query("""CREATE TABLE public.ladder_levels (LIKE stream_ingest.ladder_levels INCLUDING ALL);
               INSERT INTO public.ladder_levels SELECT '1.555', 5, side, level, price, size,
                      publish_time - interval '90 days', received_time
                 FROM stream_ingest.ladder_levels WHERE market_id = '1.103'""")
        said = refusal(small.environment)
        assert "stream_ingest.ladder_levels and public.ladder_levels both have rows" in said
        assert pipeline.run("ExportAll").returncode == 35
        small.query(  # one key that both have: the platform's own has the word
            "INSERT INTO public.ladder_levels SELECT market_id, selection_id, side, level, 99, size, publish_time,"
            " received_time FROM stream_ingest.ladder_levels WHERE market_id = '1.103'"
        )
        pipeline.output_dir.parent.mkdir(exist_ok=True)
        config = pipeline.output_dir.parent / "luigi.cfg"
        config.write_text("[tick_export]\ntables_in_two_schemas = merge\n")
        done = pipeline.run("ExportAll", LUIGI_CONFIG_PATH=str(config))
        assert done.returncode == 0, done.stderr
        assert {name: int(row["total_tick_records"]) for name, row in index_of(pipeline).items()}["1.555"] == 4
        assert sum(int(row["total_tick_records"]) for row in index_of(pipeline).values()) == small.ticks() + 4
        assert pipeline.run("VerifyExport", LUIGI_CONFIG_PATH=str(config)).returncode == 0
        server = Server.from_environment(small.environment)
        for schema, markets in (("public", {"1.103", "1.555"}), ("stream_ingest", {"1.101", "1.102", "1.103"})):
            with Database(dataclasses.replace(server, tables_in_two_schemas=schema)) as database:
                assert {name for table in database.tables(LADDER) for name in database.market_ids(table)} == markets

    def test_an_empty_one_is_no_second_place_and_a_view_of_the_moved_one_neither(self, small: Source) -> None:
        small.query(
            "CREATE TABLE public.ladder_levels (LIKE stream_ingest.ladder_levels);"
            "CREATE VIEW public.traded_volume AS SELECT * FROM stream_ingest.traded_volume"
        )
        with Database(Server.from_environment(small.environment)) as database:
            assert {table.schema for table in database.tables(LADDER)} == {"stream_ingest"}

    def test_without_runners_and_lifecycle(self, pipeline: Pipeline, small: Source) -> None:
        small.query("DROP TABLE public.runners, stream_ingest.market_lifecycle_events, public.events CASCADE")
        done = pipeline.run("ExportAll")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("There is no table runners") == 1
        assert done.stderr.count("There is no table market_lifecycle_events") == 1
        metadata = (pipeline.output_dir / "markets" / "marketId=1.101_metadata.json").read_text()
        assert '"marketStatus": null' in metadata and '"runners": []' in metadata
        assert pipeline.run("ConsolidateDay", "--date", "2026-02-05").returncode == 0


def test_a_partition_dropped_between_survey_and_use(small):
    server = Server.from_environment(small.environment)
    with Database(server) as database:
        gone, kept = database.tables(LADDER)
        small.query(f"DROP TABLE {gone.schema}.{gone.name}")
        assert database.market_ids(gone) == [] and database.newest(gone, ["1.101"]) == {}
        assert list(database.sample(gone, 1, 5, None)) == []
        assert database.runners_between(gone, ["1.101"], 0, 2 * 10**15) == []
        assert database.market_ids(kept) == ["1.102"]


def test_a_run_goes_on_without_a_partition_that_is_dropped_under_way(small, monkeypatch):
    days = {"dropped": False}

    def listed(database: Database, name: str) -> list[Table]:
        tables = usual(database, name)
        if name == LADDER and not days["dropped"]:
            days["dropped"] = True
            small.query("DROP TABLE stream_ingest.ladder_20260205")
            small.partition("2026-02-07")
            small.message("1.103", "2026-02-07 10:00:00+00")
        return tables

    usual = Database.tables
    monkeypatch.setattr(Database, "tables", listed)
    with Database(Server.from_environment(small.environment)) as database:
        stored = survey.ask_database(database, None, (), 0)
    assert sorted(stored.with_ladder()) == ["1.102", "1.103"], "and with one that has come"


def test_what_is_dropped_while_it_is_verified_is_no_difference(pipeline, small, monkeypatch):
    assert pipeline.run("ExportAll").returncode == 0

    def sums(*arguments: object) -> object:
        small.query("DROP TABLE IF EXISTS stream_ingest.ladder_20260205")
        return usual(*arguments)

    usual = stored_sums.sums
    monkeypatch.setattr(stored_sums, "sums", sums)
    with Database(Server.from_environment(small.environment)) as database:
        verdict = export_check.verify(Layout(pipeline.output_dir), database, 0)
    assert not verdict.differences, verdict.differences


def test_following_the_advice_ends_in_a_verified_export(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    small.query("UPDATE stream_ingest.traded_volume SET size_traded = size_traded + 1 WHERE market_id = '1.101'")
    said = pipeline.run("VerifyExport").stderr
    assert "Run ExportMarket --refresh for this market, then BuildIndex." in said
    assert pipeline.run("ExportMarket", "--market-id", "1.101", "--refresh").returncode == 0
    said = pipeline.run("VerifyExport").stderr
    assert "has written the file since index.csv was made. Run BuildIndex." in said and "Restore" not in said
    assert pipeline.run("BuildIndex").returncode == 0
    assert pipeline.run("VerifyExport").returncode == 0


def test_metadata_of_a_market_that_failed_and_was_purged_is_no_stray(pipeline, small):
    small.query("UPDATE stream_ingest.traded_volume SET received_time = 'infinity' WHERE market_id = '1.102'")
    assert pipeline.run("ExportAll").returncode == 30
    small.query(
        "DELETE FROM stream_ingest.traded_volume WHERE market_id = '1.102'; DROP TABLE stream_ingest.ladder_20260206"
    )
    verified = pipeline.run("VerifyExport")
    assert verified.returncode == 0, verified.stderr
    report = (pipeline.output_dir / "verification_report.txt").read_text()
    assert "metadata of a market without a file" in report
    archived = pipeline.run("Archive", "--offline")
    assert archived.returncode == 0 and "Not part of the export" not in archived.stderr, archived.stderr
    assert "because the export of their markets failed: markets/marketId=1.102_metadata.json" in archived.stderr
    path = pipeline.output_dir / "markets" / "marketId=1.102_metadata.json"
    path.write_bytes(path.read_bytes().replace(b"1.102", b"1.103"))
    assert pipeline.run("VerifyExport").returncode == 30, "metadata of another market is a stray"
