"""Markets out of the database into their files: what is missing, how it is written, what the report says."""
