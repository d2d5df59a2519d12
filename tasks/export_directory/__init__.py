"""What lies in an output directory: index, metadata, journal, and what a scan of it finds."""
