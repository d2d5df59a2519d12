"""The tasks, by the names that `luigi --module tasks NAME` knows them by."""

from tasks.configuration import load_configuration
from tasks.export import ExportMarket, ExportMarkets
from tasks.index import BuildIndex, ExportAll
from tasks.metadata import BuildMetadata

load_configuration()

PUBLIC = ("ExportAll", "ExportMarket", "BuildIndex", "BuildMetadata")
__all__ = [*PUBLIC, "ExportMarkets"]
