"""What a tick is and how it moves: PostgreSQL to files. Nothing in here knows Luigi."""
