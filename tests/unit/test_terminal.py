"""The line at the foot of a terminal: as wide as the terminal, whole or not at all, gone before another is written."""

import io
import logging
import os
import re
import signal
import types

import pytest

from tasks.workflow import progress as progress_module
from tasks.workflow import terminal
from tasks.workflow.logs import Handler, OneLineFormatter
from tasks.workflow.progress import ByteProgress, PartProgress, Progress, RowProgress


class Screen(io.StringIO):
    """A terminal that remembers what was written to it."""

    encoding = "utf-8"

    def isatty(self):
        """Tell that it is one."""
        return True

    def fileno(self):
        """Have its width asked for elsewhere."""
        raise OSError

    @property
    def lines(self):
        """What stands on it, without colours."""
        text = re.sub(r"\x1b\[\d+m", "", self.getvalue())
        return [line.split("\r\x1b[K")[-1] for line in text.split("\n")]


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 80 columns as standard error, on which every count is drawn."""
    screen = Screen()
    monkeypatch.setattr(terminal, "sys", types.SimpleNamespace(stderr=screen))  # pytest has the other
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(progress_module, "_TERMINAL_S", -1.0)
    terminal.live_line.cache_clear()
    yield screen
    terminal.live_line.cache_clear()


@pytest.mark.parametrize("columns", [10, 40, 60, 80, 200])
def test_the_line_fits_any_width_and_ends_at_100_percent(screen, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    progress = Progress()
    progress.expect(2, 3_000_000)
    for markets, ticks in ((0, 1_000_000), (1, 900_000), (1, 900_000)):
        progress.count(markets, ticks)
        assert all(len(line) < columns for line in screen.lines), screen.lines
    assert screen.lines[-1] == "" and screen.lines[-2].startswith("100%"), "the end stays, at 100 %"
    assert len(screen.lines) == 2, "one line, drawn again and again"


def test_a_log_line_goes_above_it_and_leaves_nothing_of_it(screen):
    progress = Progress()
    progress.expect(2, 100)
    progress.count(1, 50)
    handler = Handler(screen)
    handler.setFormatter(OneLineFormatter("%(levelname)-7s %(message)s"))
    handler.handle(logging.makeLogRecord({"msg": "a line", "levelno": logging.WARNING, "levelname": "WARNING"}))
    assert screen.lines == ["WARNING a line", ""]
    assert "\x1b[33mWARNING" in screen.getvalue()
    progress.count(1, 50)
    assert screen.lines[0] == "WARNING a line" and screen.lines[1].startswith("100%")


def test_colours_can_be_forbidden_and_a_dumb_terminal_gets_plain_lines(screen, monkeypatch, caplog):
    monkeypatch.setenv("NO_COLOR", "1")
    progress = Progress()
    progress.expect(1, 10)
    progress.count(1, 10)
    assert "100%" in screen.getvalue() and not re.search(r"\x1b\[\d+m", screen.getvalue())
    before = screen.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    progress = Progress()
    progress.expect(1, 10)
    progress.count(1, 10)
    assert screen.getvalue() == before


def test_one_of_a_thing_is_no_plural(screen):
    rows = RowProgress(10)
    rows.count_slice(1)
    assert rows.text.startswith("1 of about 10 rows, 1 slice,")
    rows.count_slice(9)
    rows.count(1, 0)
    assert rows.text.startswith("10 rows, 2 slices,") and "left" not in rows.text and rows.percent == 100
    one = Progress()
    one.expect(1, 1)
    one.count(1, 1)
    assert one.text.startswith("1 of 1 market done, 1 tick read,")
    some = ByteProgress(4_000_000)
    some.count(0, 6_000_000)
    assert some.text.startswith("2 of 4 MB read back") and some.percent == 75


def test_the_line_of_a_step_goes_when_it_is_done_and_counts_what_it_counts(screen):
    step = PartProgress("stream", "written", 4, 1_000)
    step.count(1, 0)
    assert screen.lines[-1].startswith(" 25%") and screen.lines[-1].endswith("1 of 4 streams written")
    step.count(1, 900)
    assert screen.lines[-1].startswith(" 90%") and "2 of 4 streams written, 900 ticks read" in screen.lines[-1]
    step.count(2, 100)
    assert screen.lines == [""] and step.percent == 100


def test_a_worker_that_died_while_it_drew_stops_no_other(screen, monkeypatch):
    monkeypatch.setattr(terminal, "_PATIENCE_S", 0.01)
    line = terminal.live_line()
    child = os.fork()
    if not child:
        line._lock.acquire()
        os._exit(0)
    os.waitpid(child, 0)
    line.draw(5, ["on it goes"])
    assert screen.lines[0].endswith("on it goes")


def test_a_process_that_is_killed_while_it_counts_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(progress_module, "_PATIENCE_S", 0.01)
    progress = Progress()
    progress.expect(3, 300)
    progress.count(1, 100)
    if not (killed := os.fork()):
        with progress._alone():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(killed, 0)
    assert (progress.markets, progress.ticks, progress.percent) == (1, 100, 33)
    progress.count(1, 100)
    monkeypatch.setattr(progress_module, "_PATIENCE_S", None)  # nobody waits a second time
    progress.count(1, 100)
    assert (progress.markets, progress.ticks, progress.is_done) == (3, 300, True)
