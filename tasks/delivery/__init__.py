"""The archive that is delivered."""
