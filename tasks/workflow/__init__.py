"""What all tasks stand on: the base task, the plan of a run, parameters, settings, logging, interrupts."""
