"""A page that is one file: it contains its data, styles and scripts, and requests nothing from any host."""

import functools
import hashlib
import html
import importlib.resources
import json
from collections.abc import Sequence
from typing import Any

#: Raised when the content of pages changes although no file among the assets has changed.
_VERSION = 2

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}
</style>
</head>
<body>
{body}
<script type="application/json" id="data">{data}</script>
<script>
{script}
</script>
</body>
</html>
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@functools.cache
def asset(name: str) -> str:
    """Return the text of a file that belongs to the pages."""
    return importlib.resources.files("tasks.reporting").joinpath("assets", name).read_text(encoding="utf-8").strip()


def fingerprint() -> str:
    """Return a value that changes when the pages of this version look different."""
    names = sorted(entry.name for entry in importlib.resources.files("tasks.reporting").joinpath("assets").iterdir())
    return hashlib.sha256("\0".join([str(_VERSION), *map(asset, names)]).encode()).hexdigest()


def page(title: str, body: str, data: Any, styles: Sequence[str], scripts: Sequence[str]) -> bytes:
    """Return a page. body: HTML; data: for the scripts, which read it as JSON from the element "data"; styles, scripts:
    names of assets.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _PAGE.format(
        policy=_POLICY,
        title=html.escape(title),
        style="\n".join(map(asset, styles)),
        body=body,
        data=text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
        script="\n".join(map(asset, scripts)),
    ).encode()
