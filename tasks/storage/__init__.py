"""Where files are and how they get there: the layout of paths, and files that appear only when whole."""
