"""What a run that is refused says."""

import dataclasses

import pytest

from tasks.errors import DatabaseError
from tasks.postgres.database import Database
from tasks.postgres.server import Server


def refusal(environment: dict[str, str], **settings: str) -> str:
    """Return the line with which the pipeline refuses a database."""
    with pytest.raises(DatabaseError) as caught:
        Database(dataclasses.replace(Server.from_environment(environment), **settings)).close()
    assert caught.value.exit_code == 35
    return str(caught.value)
