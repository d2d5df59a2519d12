"""The records in an output directory: index, ledger, journal, metadata, states, and a scan of the directory."""
