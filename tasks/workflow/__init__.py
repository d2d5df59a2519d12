"""What all tasks are built on: the base task, the plan of a run, parameters, settings, logging, interrupts."""
