"""The condition of each market and each UTC day of an export, with reasons, intervals and counts."""
