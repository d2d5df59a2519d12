"""Settings of Sphinx, which makes a site of these pages: ./run_pipeline.sh docs. They can be read as plain Markdown too.

Sphinx with MyST and Furo, because all three are kept by the projects that most of Python's documentation stands on, read
our Markdown as it is, and the theme works in the dark, on a phone and from disk.
"""

project = "Betfair tick export"
copyright = "its authors"
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["_site"]
highlight_language = "none"  # of blocks that name none

html_theme = "furo"
html_title = project
html_copy_source = html_show_sourcelink = html_show_sphinx = False

# Each heading has an address, as in the links between the pages.
myst_heading_anchors = 3
