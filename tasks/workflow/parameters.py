"""Luigi parameters that answer bad input with one line and exit code 2."""

import datetime
import re
from typing import Any, TypeVar

import luigi

from tasks.market_files import formats
from tasks.storage.file_names import is_market_id
from tasks.workflow.exit_codes import EXIT_USAGE, stop

#: The most days that can be asked for at once.
MOST_DAYS = 366

#: Schemas that an export is never restored into.
_TAKEN = ("public", "stream_ingest", "information_schema")

Value = TypeVar("Value")


class _Checked(luigi.Parameter[Value]):
    """A parameter whose parse errors name the option, what was found and what is expected."""

    option = ""
    expected = ""

    def parse(self, value: str) -> Any:
        """Return the value of the option's text."""
        try:
            return self.parse_text(value)
        except (ValueError, KeyError, luigi.parameter.ParameterException):
            stop(f"{self.option} is {value!r}, expected {self.expected}.", EXIT_USAGE)

    def has_task_value(self, task_name: str, param_name: str) -> bool:
        """Return whether the option has a value; stop with one line if it has none and needs one."""
        if not super().has_task_value(task_name, param_name):
            stop(f"{task_name} needs {self.option}, {self.expected}.", EXIT_USAGE)
        return True

    def parse_text(self, value: str) -> Any:
        """Return the value. Raises ValueError if the text is invalid."""
        return value


class FormatParameter(_Checked[str]):
    """--format, one of the names in market_files/formats.py."""

    option = "--format"
    expected = " or ".join(formats.NAMES)

    def parse_text(self, value: str) -> str:
        """Return the format."""
        if value not in formats.NAMES:
            raise ValueError(value)
        return value


class ChoiceParameter(_Checked[str]):
    """One of a few words."""

    def __init__(self, option: str, choices: tuple[str, ...], **rest: Any) -> None:
        super().__init__(**rest)
        self.option, self._choices, self.expected = option, choices, " or ".join(choices)

    def parse_text(self, value: str) -> str:
        """Return the word."""
        if value not in self._choices:
            raise ValueError(value)
        return value


class ClusterParameter(_Checked[str]):
    """--spark-master, the address of a Spark cluster, empty for none."""

    option = "--spark-master"
    expected = "the address of a Spark cluster such as spark://host:7077, yarn, k8s://https://host:443, or local[2]"

    def parse_text(self, value: str) -> str:
        """Return the address."""
        if not re.fullmatch(r"spark://[^/,\s]+:\d+(,[^/,\s]+:\d+)*|yarn|k8s://\S+|local(\[(\d+|\*)\])?|", value):
            raise ValueError(value)
        return value


class MarketIdParameter(_Checked[str]):
    """--market-id, digits, a dot, digits."""

    option = "--market-id"
    expected = "a Betfair market id such as 1.200806927"

    def parse_text(self, value: str) -> str:
        """Return the market id."""
        if not is_market_id(value):
            raise ValueError(value)
        return value


class SchemaParameter(_Checked[str]):
    """--schema, a schema of PostgreSQL that is not the recorder's or the system's."""

    option = "--schema"
    expected = (
        "a name of small letters, digits and underscores that is not public, stream_ingest or the system's, such as"
        " restored"
    )

    def parse_text(self, value: str) -> str:
        """Return the schema."""
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value) or value in _TAKEN or value.startswith("pg_"):
            raise ValueError(value)
        return value


class DayParameter(_Checked[datetime.date]):
    """--date, or another UTC day."""

    expected = "an existing day as YYYY-MM-DD, such as 2024-01-15"

    def __init__(self, option: str = "--date", **rest: Any) -> None:
        super().__init__(**rest)
        self.option = option

    def parse_text(self, value: str) -> datetime.date:
        """Return the day."""
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
            raise ValueError(value)
        day = datetime.date.fromisoformat(value)
        if day == datetime.date.max:
            raise ValueError("there is no time after it")
        return day

    def serialize(self, value: datetime.date) -> str:
        """Return the option's text."""
        return value.isoformat()

    def normalize(self, value: datetime.date | str) -> datetime.date:
        """Return the day, also for a text."""
        return self.parse(value) if isinstance(value, str) else value


class PositiveParameter(_Checked[Any]):
    """A number above 0, of the kind given."""

    def __init__(self, option: str, kind: type[int] | type[float] = int, **rest: Any) -> None:
        super().__init__(**rest)
        self.option, self._kind = option, kind
        self.expected = "a whole number above 0" if kind is int else "a number above 0"

    def parse_text(self, value: str) -> int | float:
        """Return the number."""
        number = self._kind(value)
        if not 0 < number < float("inf"):
            raise ValueError(value)
        return number

    def serialize(self, value: float) -> str:
        """Return the option's text."""
        return str(value)


class RecheckDaysParameter(_Checked[int]):
    """--recheck-days, a number of days."""

    option = "--recheck-days"
    expected = f"a number of days from 0 to {MOST_DAYS}"

    def parse_text(self, value: str) -> int:
        """Return the number."""
        if not 0 <= int(value) <= MOST_DAYS:
            raise ValueError(value)
        return int(value)

    def serialize(self, value: int) -> str:
        """Return the option's text."""
        return str(value)


class CountParameter(luigi.IntParameter):
    """A number of minutes or days in luigi.cfg."""

    expected = "a whole number, 0 or more"

    def parse(self, value: str) -> int:
        """Return the number. Raises ValueError if it is not one, or below 0."""
        number = int(super().parse(value))
        if number < 0:
            raise ValueError(value)
        return number


class SwitchParameter(luigi.BoolParameter):
    """An option that takes true or false, true when it stands alone."""

    parsing = luigi.BoolParameter.EXPLICIT_PARSING

    def __init__(self, option: str, **rest: Any) -> None:
        super().__init__(**rest)
        self._option = option

    def parse(self, value: Any) -> bool:
        """Return the switch's position."""
        try:
            return bool(super().parse(value))
        except ValueError:
            stop(f"{self._option} is {value!r}, expected true or false.", EXIT_USAGE)


class AddressParameter(_Checked[str]):
    """--to or --from, the address of a published export; it is checked when it is opened."""

    expected = "an address such as s3://bucket/prefix, gs://bucket/prefix or file:///folder"

    def __init__(self, option: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.option = option


class MarketIdsParameter(_Checked[tuple[str, ...]]):
    """--markets, market ids separated by commas."""

    option = "--markets"
    expected = "Betfair market ids such as 1.200806927,1.200806928"

    def parse_text(self, value: str) -> tuple[str, ...]:
        """Return the market ids."""
        market_ids = tuple(filter(None, value.split(",")))
        if not all(map(is_market_id, market_ids)):
            raise ValueError(value)
        return market_ids

    def serialize(self, x: Any) -> str:
        """Return the text that is parsed again."""
        return ",".join(x)


class DaysParameter(_Checked[tuple[datetime.date, ...]]):
    """--days, UTC days separated by commas."""

    option = "--days"
    expected = "existing days such as 2024-01-15,2024-01-16"

    def parse_text(self, value: str) -> tuple[datetime.date, ...]:
        """Return the days."""
        return tuple(datetime.datetime.strptime(day, "%Y-%m-%d").date() for day in value.split(",") if day)

    def serialize(self, x: Any) -> str:
        """Return the text that is parsed again."""
        return ",".join(day.isoformat() for day in x)
