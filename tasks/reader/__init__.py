"""Reads an export in a program of one's own: `from tasks.reader import open_export`. Starts nothing, loads no Luigi."""

from tasks.reader.books_as_of import Books
from tasks.reader.opened_export import Export, open_export

__all__ = ["Books", "Export", "open_export"]
