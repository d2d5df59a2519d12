"""The pages in a browser: `./run_pipeline.sh test --browser`, with Debian's Chromium (CHROMIUM names another)."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tasks.demo.load import create_schema, load
from tasks.demo.recording import Recording
from tests.conftest import Pipeline, index_of, new_source

pytestmark = pytest.mark.skipif("not config.getoption('browser')", reason="./run_pipeline.sh test --browser")

WIDTHS, SCHEMES = (1280, 390), ("light", "dark")


@pytest.fixture(scope="module")
def source(server):
    """A database with an invented recording."""
    source = new_source(server, schema=False)
    create_schema(source.server.connect(source.name))
    load(Recording(ticks=80_000, markets=70, days=3, skew=1.6, older_days=1), server.conninfo(source.name))
    return source


@pytest.fixture(scope="module")
def export(source, tmp_path_factory):
    """Its export with the plot of the largest market; and that market."""
    pipeline = Pipeline(tmp_path_factory.mktemp("pages") / "out", source.environment)
    assert pipeline.run("ExportAll").returncode == 0
    market_id = max(index_of(pipeline).values(), key=lambda row: int(row["total_tick_records"]))["market_id"]
    assert pipeline.run("PlotMarket", "--market-id", market_id).returncode == 0
    assert pipeline.run("Report").returncode == 0
    return pipeline, market_id


@pytest.fixture(scope="module")
def chromium():
    """A browser without a window."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "no chromium found: apt-get install chromium, or name one in CHROMIUM"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=str)
def page(chromium, request):
    """A page of each width and colour scheme, on which nothing goes wrong and that asks no host."""
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    yield page
    assert not wrong
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "wider than the screen"
    context.close()


def serious(page):
    """Return what axe-core finds serious or worse."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]


def open_page(page, path: Path, ready: str) -> None:
    """Open a page from disk and wait until it is drawn."""
    page.goto(path.as_uri())
    page.wait_for_selector(ready)


def until(page, expression: str) -> None:
    """Wait until a page's expression is true. Playwright evaluates its own in the page, which its policy forbids."""
    for _ in range(1000):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never true: {expression}")


def shown_markets(page) -> list[str]:
    """Return the ids of the markets that the table shows."""
    return [text.split(" ")[0] for text in page.locator("#table tr.row td:first-child .id").all_inner_texts()]


def test_the_report_is_searched_sorted_and_followed(page, export):
    pipeline, market_id = export
    rows = index_of(pipeline)
    open_page(page, pipeline.output_dir / "report.html", "#table tr.row")
    by_ticks = sorted(rows, key=lambda one: (int(rows[one]["total_tick_records"]), one), reverse=True)
    assert shown_markets(page) == by_ticks[:25] and page.locator("#found").inner_text() == f"{len(rows)} markets"
    assert not serious(page)
    page.get_by_label("Search").fill(by_ticks[3])
    assert shown_markets(page) == [by_ticks[3]] and f"1 of {len(rows)} markets" == page.locator("#found").inner_text()
    page.goto(f"{(pipeline.output_dir / 'report.html').as_uri()}#{by_ticks[4]}")
    assert shown_markets(page) == [by_ticks[4]], "as luigid links to a market"
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="Next").click()
    assert shown_markets(page) == by_ticks[25:50]
    page.evaluate("sort(1)")
    types = page.evaluate("shown.map((i) => M.types[M.type[i]])")
    assert types == sorted(types)
    condition = json.loads((pipeline.output_dir / "condition.json").read_text())
    day = condition["days"][1]["date"]
    page.get_by_role("button", name=day).click()
    expected = [
        one for one in rows.values() if one["first_tick_timestamp"][:10] <= day <= one["last_tick_timestamp"][:10]
    ]
    assert page.locator("#found").inner_text().startswith(f"{len(expected)} of ")
    page.locator("#by-day").select_option("")
    degraded = next(one["market_id"] for one in condition["markets"] if one["condition"] == "degraded")
    page.get_by_label("Search").fill(degraded)
    page.locator("#table td.state button").click()
    assert page.locator("#table tr.why li").count() >= 1 and not serious(page)
    page.get_by_label("Search").fill(market_id)
    page.get_by_role("link", name=f"Plot of market {market_id}").click()
    page.wait_for_selector("html[data-ready]")
    assert page.url.endswith(f"marketId={market_id}.html")


def test_the_slider_shows_the_ladder_that_the_database_has(page, export, source):
    pipeline, market_id = export
    open_page(page, pipeline.output_dir / "plots" / f"marketId={market_id}.html", "html[data-ready]")
    assert not serious(page)
    count = page.evaluate("COUNT")
    for number in (0, count // 3, count // 2, count - 1):
        page.locator("#slider").evaluate(
            "(slider, n) => { slider.value = n; slider.dispatchEvent(new Event('input')); }", number
        )
        until(page, f"now === {number} && $('slider').value == {number}")
        page.wait_for_timeout(50)
        moment = page.locator("#moment").inner_text().removesuffix(" UTC")
        shown = {
            (int(row["runner"]), side, level): (price, size)
            for row in page.evaluate(
                "[...document.querySelectorAll('#ladder tbody tr')].map((row) => ({runner: row.dataset.runner, cells:"
                " [...row.querySelectorAll('td')].map((td) => [td.dataset.cell, td.firstChild.textContent,"
                " td.lastChild.textContent])}))"
            )
            for cell, price, size in row["cells"]
            if price
            for side, level in [cell.split(".")]
        }
        stored = source.query(
            "SELECT selection_id, side, level, price, size FROM stream_ingest.ladder_levels WHERE market_id = %s"
            " AND date_trunc('milliseconds', publish_time) = %s::timestamptz",
            market_id,
            f"{moment}+00",
        )
        assert shown.keys() == {(selection, str(int(side == "L")), str(level)) for selection, side, level, *_ in stored}
        for selection, side, level, price, size in stored:
            found = shown[selection, str(int(side == "L")), str(level)]
            assert float(found[0]) == price and abs(float(found[1].replace(",", "")) - size) < 0.0051


def test_the_picture_leads_the_ladder_and_play_moves_it(page, export):
    pipeline, market_id = export
    open_page(page, pipeline.output_dir / "plots" / f"marketId={market_id}.html", "html[data-ready]")
    page.get_by_role("button", name="All", exact=True).click()
    box = page.locator("#prices .u-over").bounding_box()
    for share in (0.2, 0.8):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        page.wait_for_timeout(100)
        at = page.evaluate("(T[now] - T[0]) / (T[COUNT - 1] - T[0])")
        assert abs(at - share) < 0.25, (at, share)
    page.mouse.move(0, 0)
    page.evaluate("show(0, true)")
    page.get_by_label("Speed").select_option("0")
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "now >= 3")
    page.get_by_role("button", name="Pause").click()
