"""Every setting of pg_settings that a role or a database may carry: the same bytes, or one line that names it.

The settings are tried in groups: a group is halved where it fails, and what is named is left out of it. By default one
value of each setting, chosen by a seed, in one group for a role; with `pytest tests/faults/test_settings.py --walk`
every value of each, for a database too (half an hour).
"""

import contextlib
import random
import re
import shutil

import psycopg2
import pytest

from tests.conftest import Pipeline, Source, new_source, reader

_STRINGS = ["", "x", "on", "0", "C", "German", "SQL, DMY", "Asia/Kolkata", "LATIN1", "Australia", "%m 'x"]
#: Those that are named whatever their value, or for most of their values: part of the walk alone.
_MOSTLY_NAMED = re.compile(
    r".*_preload_libraries|dynamic_library_path|log_\w+_stats|temp_file_limit|zero_dam.*|ignore_ch.*"
)
#: As many settings are tried at once with --walk: few enough that none hides another.
_GROUP = 40
_DAY = "2026-02-05"
_TASKS = {
    "ExportAll": (),
    "ConsolidateDay": ("--date", _DAY),
    "ConsolidateDayDirect": ("--date", _DAY),
    "VerifyExport": (),
}


def values_of(kind: str, choices: list[str] | None, least: str | None, most: str | None, usual: str) -> list[str]:
    """Return values of a setting other than its default, by what pg_settings says of it."""
    if kind == "bool":
        found = ["on", "off"]
    elif kind == "enum":
        found = list(choices or ())
    elif kind == "string":
        found = _STRINGS
    else:
        low, high = float(least or 0), float(most or 0)
        number = float(usual or 0)
        wanted = [low, low + 1, (low + high) / 2, high - 1, high, number + 1, number * 2]
        within = [value for value in wanted if low <= value <= high]
        found = [f"{value:.17g}" if kind == "real" else str(int(value)) for value in within]
    return list(dict.fromkeys(value for value in found if value != usual))


class Carried:
    """A source whose role or database carries settings."""

    def __init__(self, source: Source, role: str) -> None:
        self.source, self.role = source, role

    def all(self) -> list[tuple[str, list[str]]]:
        """Return each setting that a role may carry, with the values that the server takes for it."""
        rows = self.source.query(
            "SELECT name, vartype, enumvals, min_val, max_val, boot_val FROM pg_settings"
            " WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend') ORDER BY lower(name)"
        )
        found = []
        with contextlib.closing(self.source.server.connect()) as connection, connection.cursor() as cursor:
            for name, *rest in rows:
                taken = []
                for value in values_of(*rest):
                    with contextlib.suppress(psycopg2.Error):
                        cursor.execute(f'ALTER ROLE {self.role} SET "{name}" = %s', (value,))
                        taken.append(value)
                    connection.rollback()
                found.append((name, taken))
        return found

    def carry(self, where: str, settings: list[tuple[str, str]]) -> None:
        """Have the role or the database carry these alone."""
        subject = self.role if where == "ROLE" else self.source.name
        self.reset()
        with contextlib.closing(self.source.server.connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            for name, value in settings:
                cursor.execute(f'ALTER {where} {subject} SET "{name}" = %s', (value,))

    def reset(self) -> None:
        """Have neither carry anything."""
        with contextlib.closing(self.source.server.connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(f"ALTER ROLE {self.role} RESET ALL; ALTER DATABASE {self.source.name} RESET ALL")


class Walk:
    """Runs every task with settings and compares with what it wrote without."""

    def __init__(self, carried: Carried, directory, environment) -> None:
        self.carried, self.directory, self.environment = carried, directory, environment
        self.named: dict[str, str] = {}
        self.fallen: list[tuple[tuple[str, str], str]] = []
        self.expected: dict[str, dict[str, bytes]] = {}
        for task in _TASKS:
            result, files = self._run(task, "expected")
            assert result.returncode == 0, result.stderr
            self.expected[task] = files
        assert b"OPEN" in self.expected["ConsolidateDay"][f"consolidated_ticks_{_DAY.replace('-', '_')}.csv"]

    def _run(self, task: str, name: str):
        directory = f"{name}_direct" if task == "ConsolidateDayDirect" else name
        pipeline = Pipeline(self.directory / directory, self.environment)
        if task in ("ExportAll", "ConsolidateDayDirect"):
            shutil.rmtree(pipeline.output_dir, ignore_errors=True)
        result = pipeline.run(task, *_TASKS[task])
        files = pipeline.files() if pipeline.output_dir.exists() else {}
        return result, {
            name: content for name, content in files.items() if not name.endswith((".txt", "condition.json"))
        }

    def try_all(self, where: str, group: list[tuple[str, str]]) -> None:
        """Try settings at once; note those that are named, and those that fall."""
        while group:
            wrong = self._first_wrong(where, group)
            if wrong is None:
                return
            told = [(name, value) for name, value in group if re.search(rf"\b{re.escape(name)}\b", wrong)]
            if told and "Traceback" not in wrong and wrong.startswith("error: "):
                self.named |= {f"{name} = {value!r}": wrong for name, value in told}
                group = [each for each in group if each not in told]
            elif len(group) == 1:
                self.fallen.append((group[0], wrong))
                return
            else:
                half = len(group) // 2
                self.try_all(where, group[:half])
                group = group[half:]

    def _first_wrong(self, where: str, group: list[tuple[str, str]]) -> str | None:
        self.carried.carry(where, group)
        for task in _TASKS:
            result, files = self._run(task, "tried")
            if result.returncode:
                lines = re.findall(
                    r"(?m)^(?:error: |\S+ \S+ (?:ERROR|CRITICAL) ).*", result.stderr
                )  # no NOTICE of libpq's
                if result.returncode in (30, 35) and "Traceback" not in result.stderr:
                    return "error: " + " ".join(lines)
                return f"{task} ended with {result.returncode}: {result.stderr[-2000:]}"
            if files != self.expected[task]:
                changed = {
                    name
                    for name in files.keys() | self.expected[task].keys()
                    if files.get(name) != self.expected[task].get(name)
                }
                return f"{task} wrote other bytes: {sorted(changed)}"
        return None


@pytest.fixture(scope="module")
def walk(server, tmp_path_factory):
    """A small source, a role that may only read it, and what is written from it."""
    source = new_source(server)
    for day in ("2026-02-05", "2026-02-06"):
        source.partition(day)
    for market_id in ("1.101", "1.102"):
        source.market(market_id, runners=((1, "Jos\u00e9"), (2, "\u20ac 'x' \\")))
        for hour in range(3):
            source.message(market_id, f"{_DAY} 1{hour}:00:00.123456+00", size=0.1 + 0.2)
            source.message(market_id, f"2026-02-06 0{hour}:00:00.5+00", selection_id=2)
    source.query(
        "INSERT INTO stream_ingest.market_lifecycle_events VALUES"
        f" ('1.101', 'OPEN', true, '{_DAY} 09:00+00', '{_DAY} 09:00+00')"
    )
    environment = reader(source)
    carried = Carried(source, environment["POSTGRES_USER"])
    yield Walk(carried, tmp_path_factory.mktemp("settings"), environment)
    carried.reset()


def test_each_setting_changes_no_byte_or_is_named(walk, request):
    settings = walk.carried.all()
    assert len(settings) > 120 and ("DateStyle" in dict(settings)), "pg_settings was not understood"
    chance = random.Random(16)
    if request.config.getoption("--walk"):
        each = [(name, value) for name, values in settings for value in values]
        chance.shuffle(each)
        for where in ("ROLE", "DATABASE"):
            rest = each
            while rest:
                group: dict[str, str] = {}
                for name, value in rest:
                    if len(group) < _GROUP:
                        group.setdefault(name, value)
                walk.try_all(where, list(group.items()))
                rest = [(name, value) for name, value in rest if group.get(name) != value]
    else:
        part = [(name, values) for name, values in settings if values and not _MOSTLY_NAMED.fullmatch(name)]
        walk.try_all("ROLE", [(name, chance.choice(values)) for name, values in part])
    for setting, line in sorted(walk.named.items()):
        print(f"{setting}: {line}")
    assert not walk.fallen, "\n".join(f"{setting}: {wrong}" for setting, wrong in walk.fallen)
