"""Export markets from the database into their files: what is missing, how it is written, what the report says."""
