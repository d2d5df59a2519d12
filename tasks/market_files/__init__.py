"""Market files: Parquet and JSONL, written from ticks in order, read back in order, inspected."""
