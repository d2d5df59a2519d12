"""Read an export in your own program: `from tasks.reader import open_export`. No side effects, no Luigi."""

from tasks.reader.books_as_of import Books
from tasks.reader.opened_export import Export, open_export

__all__ = ["Books", "Export", "open_export"]
