"""One row per market and runner: what a model loads first."""
