"""The condition of an export: of each market and of each UTC day, with reasons, intervals and counts."""
