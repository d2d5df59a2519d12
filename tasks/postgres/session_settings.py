"""The settings of every session, whatever database, role or pooler carry."""

#: All that can change an answer, whatever database, role or pooler carry. PGOPTIONS cannot change these either. Names
#: are written with their schema, so nothing is looked for along the path but PostgreSQL's own.
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
    "gin_fuzzy_search_limit": "0",  # otherwise an index of that kind answers with a random part
    "default_transaction_deferrable": "off",
}

#: What only speed and patience depend on: PGOPTIONS wins. A limit on a reader's statements is meant for people.
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

#: What a session cannot set by itself and that hides rows; and what connecting has set, which a pooler may forget.
HIDING = {"zero_damaged_pages": "off", "ignore_checksum_failure": "off", "client_encoding": "UTF8"}

#: The limits that may end a session before it has said anything, and the version that knows each. Only where one has
#: ended that soon are they set from the start: poolers refuse that.
ENDING = {
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 90_600,
    "idle_session_timeout": 140_000,
    "transaction_timeout": 170_000,
}
