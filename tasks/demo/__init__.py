"""The demo: a PostgreSQL of its own, filled with an invented recording. The tests and the benchmark use both too."""
