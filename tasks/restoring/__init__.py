"""An export loaded back into PostgreSQL, into a schema of its own."""
