"""metrics.prom: what a run did and the state of the export, for the node exporter's textfile collector."""
