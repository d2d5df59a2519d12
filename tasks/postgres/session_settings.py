"""The settings of every session, whatever the database, role or pooler sets."""

#: Settings that can change an answer. Not even PGOPTIONS overrides them. All tables are named with their schema, so
#: only PostgreSQL's own objects are looked up along the path.
PINNED = {
    "search_path": "pg_catalog",
    "row_security": "off",  # a policy that hides rows becomes an error
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    "exit_on_error": "off",
    "restrict_nonsystem_relation_kind": "",
    "gin_fuzzy_search_limit": "0",  # otherwise a GIN index returns a random part of the rows
    "default_transaction_deferrable": "off",
}

#: Settings that change only speed and time limits; PGOPTIONS overrides them. A role's statement limits are meant for
#: people, not for an export.
USUAL = {
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "client_connection_check_interval": "5s",
    "client_min_messages": "warning",
}

#: Settings that are only checked: two that hide rows, which a session cannot change, and one that was set on
#: connecting, which a pooler may lose.
HIDING = {"zero_damaged_pages": "off", "ignore_checksum_failure": "off", "client_encoding": "UTF8"}

#: The limits that may end a session before its first statement, and the server version since which each exists. They
#: are sent on connecting only if a session has ended that early, because poolers refuse them.
ENDING = {
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 90_600,
    "idle_session_timeout": 140_000,
    "transaction_timeout": 170_000,
}
