"""Verify an export against its index and against the database."""
