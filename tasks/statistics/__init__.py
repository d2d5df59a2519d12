"""Statistics of each market: counted while it is exported, and stored so that its ticks need not be read again."""
