"""Pages for people: report.html of an export, and the plot of a market. Each is one file that loads nothing else."""
