"""metrics.prom: what a run did and how the export stands, for the node exporter's textfile collector."""
