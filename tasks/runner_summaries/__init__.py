"""One row a market and runner: what a model loads first."""
