"""Settings of a database, a role or PGOPTIONS: those that would hide rows are refused, the others do no harm."""

import time

import pytest

from tasks.postgres.database import Database
from tasks.postgres.server import Server
from tests.conftest import reader
from tests.flow.refusals import refusal


@pytest.mark.parametrize("where", ["ALTER DATABASE {database}", "ALTER ROLE {role}"])
def test_settings_that_a_database_or_a_role_carries(small, where):
    environment = reader(small)
    start = where.format(database=small.name, role=environment["POSTGRES_USER"])
    for setting in (
        "DateStyle = 'German'",
        "IntervalStyle = 'iso_8601'",
        "TimeZone = 'Asia/Tokyo'",
        "extra_float_digits = -15",
        "standard_conforming_strings = off",
        "bytea_output = 'escape'",
        "search_path = 'nowhere'",
        "default_transaction_isolation = 'read committed'",
        "statement_timeout = '1ms'",
        "row_security = on",
    ):
        small.query(f"{start} SET {setting}")
    with Database(Server.from_environment(environment)) as database:
        assert database.query("SELECT interval '1 day 2 hours'::text, timestamptz '2026-02-05 12:00Z'::text") == [
            ("1 day 02:00:00", "2026-02-05 12:00:00+00")
        ]
        assert (
            database.query("SELECT pg_sleep(0.05)::text, current_setting('transaction_isolation')")[0][1]
            == "repeatable read"
        )


def test_a_session_that_was_idle_for_too_long_is_opened_again_and_names_are_read_as_they_are(small):
    environment = reader(small)
    for setting in ("idle_session_timeout = '200ms'", "quote_all_identifiers = on"):
        small.query(f"ALTER ROLE {environment['POSTGRES_USER']} SET {setting}")
    with Database(Server.from_environment(environment)) as database:
        first = database.query("SELECT pg_backend_pid()")
        time.sleep(1)
        again = database.query("SELECT pg_backend_pid()")
    assert first != again, "the server was to end the first"


@pytest.mark.parametrize(
    "limit", ["idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"]
)
def test_a_limit_of_a_millisecond_ends_nothing(small, limit):
    environment = reader(small)
    small.query(f"ALTER ROLE {environment['POSTGRES_USER']} SET {limit} = '1ms'")
    for _ in range(5):  # the limit and what lifts it run a race
        with Database(Server.from_environment(environment)) as database:
            for _ in range(20):
                assert database.query("SELECT pg_sleep(0.002)::text") == [("",)]
                time.sleep(0.001)


def test_a_setting_that_hides_rows_is_named(small):
    environment = reader(small)
    small.query(f"ALTER ROLE {environment['POSTGRES_USER']} SET zero_damaged_pages = on")
    said = refusal(environment)
    assert "zero_damaged_pages = 'on' (set by: user)" in said and "RESET zero_damaged_pages" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [("-d 5", "expected only settings"), ("-c nonsense=1", "no such setting"), ("-c work_mem=lots", "invalid value")],
)
def test_pgoptions_that_mean_nothing(small, options, said):
    assert said in refusal(small.environment | {"PGOPTIONS": options})


def test_pgoptions_are_heard(small):
    options = r"-c work_mem=8MB --statement-timeout=7s -c DateStyle=German -c my.own=a\ b"
    with Database(Server.from_environment(small.environment | {"PGOPTIONS": options})) as database:
        names = "work_mem", "statement_timeout", "DateStyle", "my.own"
        assert database.query(
            "SELECT current_setting(name) FROM unnest(%(names)s) AS name", {"names": list(names)}
        ) == [("8MB",), ("7s",), ("ISO, MDY",), ("a b",)], "what an answer depends on stays as it must be"
