"""The recorder's database: connections, questions, ticks. Only reads."""
