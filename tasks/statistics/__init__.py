"""What is counted of each market while its ticks go by, and kept so that nobody has to read them again."""
