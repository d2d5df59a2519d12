"""A difference that VerifyExport finds, and what to do about it."""

import dataclasses

from tasks.storage.file_names import is_consolidated, is_metadata
from tasks.storage.layout import EXECUTION_REPORT, INDEX

MOVE_AWAY = "Move it away"
REFRESH = "Run ExportMarket --refresh for this market, then BuildIndex"
BUILD_INDEX = "The pipeline has written the file since index.csv was made. Run BuildIndex"
EXPORT = "Run ExportAll"
_RESTORE = "Restore the file from an archive, or move it away and run ExportAll while the database still has the market"
_STEPS = {
    INDEX: "Restore it from an archive, or check the market files and run BuildIndex --offline",
    EXECUTION_REPORT: "Find out what is missing; BuildIndex --offline rewrites the report",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be.

    market_id: empty if it concerns no market; what: which part of the file; step: what to do about it.
    """

    market_id: str
    file: str
    what: str
    found: object
    expected: object
    step: str = ""

    def __str__(self) -> str:
        market = f"market {self.market_id}: " if self.market_id else ""
        return (
            f"{market}{self.file}: {self.what}: found {self.found}, expected {self.expected}."
            f" {self.step or self._usual_step}."
        )

    @property
    def _usual_step(self) -> str:
        if is_consolidated(self.file):
            return "Run the consolidation again"
        if is_metadata(self.file):
            return "Delete it and run BuildMetadata, or restore it from an archive"
        return _STEPS.get(self.file, _RESTORE)
