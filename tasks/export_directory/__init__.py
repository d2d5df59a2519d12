"""What is in an output directory: index, ledger, journal, metadata, and a scan of it."""
