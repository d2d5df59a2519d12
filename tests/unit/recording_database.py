"""Databases filled with an invented recording."""

import datetime
from typing import Any

import psycopg2

from tasks.demo.load import create_schema, load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording


def filled(
    server: PostgresServer, name: str, recording: Recording, *cuts: datetime.datetime
) -> "psycopg2.extensions.connection":
    """Load a recording in pieces, and return a connection to it."""
    server.create_database(name)
    connection = server.connect(name)
    create_schema(connection)
    for after, until in zip((None, *cuts), (*cuts, None)):
        load(recording, server.conninfo(name), after=after, until=until)
    return connection


def query(connection: "psycopg2.extensions.connection", statement: str) -> list[tuple[Any, ...]]:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
