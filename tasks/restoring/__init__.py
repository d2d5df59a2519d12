"""Load an export back into PostgreSQL, into a schema of its own."""
