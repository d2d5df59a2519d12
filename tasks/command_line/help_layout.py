"""Fit help texts to the width of the terminal: they are written with long lines and wrapped when shown."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator

#: As wide as the terminal, within these bounds: longer lines are hard to read, and shorter ones have no room.
_WIDEST, _NARROWEST = 100, 60
#: Where the second column begins at most; on a narrower terminal what does not begin early goes below its term.
_COLUMN, _ROOM_FOR_COLUMNS, _EARLY, _BELOW = 36, 80, 12, 6

Row = tuple[str, str, str]

_ROW = re.compile(r"( *)(\S.*?)(?: {2,}(\S.*))?")


def fitted(text: str) -> str:
    """Return a help text as wide as the terminal.

    A block ends with an empty line. An indented line is a row: a term and, two spaces or more from it, what it means,
    which goes on in lines that are indented deeper. `usage:` begins a block of rows. Other lines are a paragraph.
    """
    width = min(max(shutil.get_terminal_size((_WIDEST, 24)).columns, _NARROWEST), _WIDEST)
    blocks = [list(_block(block)) for block in re.split(r"\n{2,}", text.strip("\n"))]
    options = min(_end(row for block in blocks for row in block if row[1].startswith("-")), _COLUMN)
    laid_out = []
    for rows in blocks:
        if rows[0][1].startswith("usage:"):
            column, below = _end(rows), 13
        else:
            column, below = options if rows[0][1].startswith("-") else min(_end(rows), _COLUMN), _BELOW
        if width < _ROOM_FOR_COLUMNS and column > _EARLY:
            column = below
        laid_out.append("\n".join(_laid_out(rows, column, width)))
    return "\n\n".join(laid_out) + "\n"


def _end(rows: Iterable[Row]) -> int:
    """Return where the second column can begin: two spaces after the longest term."""
    return max((len(indent) + len(term) for indent, term, meaning in rows if meaning), default=0) + 2


def _block(text: str) -> Iterator[Row]:
    """Yield indent, term and meaning of each row, and paragraphs as terms that mean nothing."""
    rows: list[list[str]] = []
    is_usage = text.startswith("usage:")
    for line in text.split("\n"):
        match = _ROW.fullmatch(line)
        assert match, line
        indent, term, meaning = match.groups(default="")
        if is_usage and not indent:
            rows.append(["", term, meaning])
        elif not indent and rows and not rows[-1][0]:
            rows[-1][1] += f" {line}"
        elif not indent:
            rows.append(["", line, ""])
        elif rows and len(indent) > len(rows[-1][0]) + 2 and not is_usage:
            rows[-1][2] += f" {line.strip()}"
        else:
            rows.append([indent, term, meaning])
    yield from ((indent, term, meaning) for indent, term, meaning in rows)


def _laid_out(rows: Iterable[Row], column: int, width: int) -> Iterator[str]:
    for indent, term, meaning in rows:
        first = f"{indent}{term}"
        if term.startswith("./") and not meaning:  # a command line, to be copied
            lines = textwrap.wrap(first, width - 2, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
            yield " \\\n".join(lines)
            continue
        if not meaning:
            deeper = indent + " " * (7 if term.startswith("usage:") or indent else 0)
            yield from textwrap.wrap(first, width, subsequent_indent=deeper, break_on_hyphens=False)
            continue
        lines = textwrap.wrap(meaning, width - column, break_on_hyphens=False)
        if len(first) <= column - 2:
            yield f"{first:<{column}}{lines.pop(0)}"
        else:
            yield from textwrap.wrap(first, width, subsequent_indent=f"{indent}       ", break_on_hyphens=False)
        yield from (" " * column + line for line in lines)
