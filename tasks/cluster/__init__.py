"""A Spark cluster, as a place to make days. Imported only if a cluster is asked for."""
