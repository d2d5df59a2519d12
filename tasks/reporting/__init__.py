"""Pages that people look at: report.html of an export, and the plot of a market. Each is one file that asks no host."""
