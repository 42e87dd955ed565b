"""The HTML report in a real browser: from a file, without a network."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.base.units import format_duration, format_size
from diagnosis.output.html_report.contents import Shown, one_report, two_reports
from diagnosis.output.html_report.page import render
from scripts import picture
from tests.output.reports import (
    CLAIMS,
    EMPTY,
    FIXED,
    HOSTILE,
    LEAK,
    MIB,
    OTHERS,
    RIGHT,
    claims,
    hostile,
    moments,
    report,
    stack,
)
from tests.support.browser import Browser, find_browser

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser

# Of frames, by name, as soon as they are where they will be.
WIDTHS = """
    const widths = {};
    for (const frame of document.querySelectorAll(".flame g.frame")) {
        const width = Number(frame.querySelector("rect").getAttribute("width"));
        if (Math.abs(width - Number(frame.getAttribute("width"))) > 0.01) return null;  // it moves
        widths[frame.getAttribute("name")] = Math.round(frame.getAttribute("width"));
    }
    return widths;
"""
FILL = 'return getComputedStyle(document.querySelector(`.flame g.frame[name="${arguments[0]}"] rect`)).fill'


def show(browser: Browser, folder: Path, contents: dict[str, Any]) -> str:
    """Open a page that is complete: returns its text."""
    file = folder / "report.html"
    file.write_text(render(contents), encoding="utf-8")
    browser.open(file)
    browser.wait("return document.querySelector('main section') !== null")
    return str(browser.run("return document.querySelector('main').textContent"))


def opened_alone(browser: Browser, folder: Path) -> None:
    """Nothing was said on the console, and nothing but the file itself was asked for."""
    assert browser.console() == []
    assert browser.requests() == [(folder / "report.html").as_uri()]


def test_a_run_s_page_shows_everything_and_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    text = show(browser, tmp_path, one_report(Shown(LEAK, CLAIMS, moments(), RIGHT)))
    assert browser.run("return document.title") == "shop (pid 4711): memleak-lab"
    for said in (
        "cache_insert called from cache_refresh",
        LEAK.report.verdict.summary,
        RIGHT.text,
        "/health said healthy at each of 40 readings.",
        "Resident memory",
        "The traced window",
        "cache.c:82",
        "No event was lost.",
        *LEAK.report.notes,
        "blocks taken and kept",
    ):
        assert said in text, said
    # Frames, lines of charts and rows are drawn, and have a size.
    assert set(browser.wait(WIDTHS)) >= {"shop", "main", "handle_request", "cache_refresh", "cache_insert", "xmalloc"}
    lines = "return [...document.querySelectorAll('path.line')].map((each) => each.getTotalLength())"
    lengths = browser.wait(lines)
    assert len(lengths) == 6
    assert min(lengths) > 100
    opened_alone(browser, tmp_path)


def test_a_frame_is_as_wide_as_what_it_holds_and_a_click_zooms(browser: Browser, tmp_path: Path) -> None:
    show(browser, tmp_path, one_report(Shown(LEAK)))
    before = browser.wait(WIDTHS)
    assert before["cache_insert"] / before["shop"] == pytest.approx(32 / 38, abs=0.01)
    assert before["[stack cut short]"] / before["shop"] == pytest.approx(2 / 38, abs=0.01)
    assert not browser.run("return document.querySelector('.reset').checkVisibility()")

    browser.click("return document.querySelector('.flame g.frame[name=\"render\"] rect')")
    zoomed = browser.wait("return !document.querySelector('.flame g.frame[name=\"cache_insert\"]')") and browser.wait(
        WIDTHS
    )
    assert zoomed == dict.fromkeys(["shop", "__libc_start_main", "main", "handle_request", "render"], before["shop"])

    browser.click("return document.querySelector('.reset')")
    browser.wait("return document.querySelector('.flame g.frame[name=\"cache_insert\"]')")
    assert browser.wait(WIDTHS) == before
    opened_alone(browser, tmp_path)


def test_a_frame_is_reached_and_zoomed_by_keys_and_has_a_name(browser: Browser, tmp_path: Path) -> None:
    show(browser, tmp_path, one_report(Shown(LEAK)))
    label = browser.wait(
        "const frame = document.querySelector('.flame g.frame[name=\"render\"]'); frame.focus();"
        "return frame.getAttribute('aria-label')"
    )
    assert label == "render: 4.00 MiB, 11% at page.c:12 in shop"
    assert browser.run("return document.querySelector('.details').textContent") == label
    browser.run(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));return true"
    )
    browser.wait("return document.querySelector('.reset').checkVisibility()")
    opened_alone(browser, tmp_path)


@pytest.mark.parametrize(
    ("term", "found", "said"),
    [
        ("RENDER", {"render"}, "1 found: 4.00 MiB, 11%"),
        ("cache.c:109", {"cache_refresh"}, "1 found: 32.0 MiB, 84%"),
        ("(((", set[str](), "nothing found"),  # no regular expression
    ],
)
def test_a_search_marks_what_it_finds_and_says_how_much_it_holds(
    browser: Browser, tmp_path: Path, term: str, found: set[str], said: str
) -> None:
    show(browser, tmp_path, one_report(Shown(LEAK)))
    names = set(browser.wait(WIDTHS))
    before = {name: browser.run(FILL, name) for name in names}
    browser.type(".tools input", term)
    assert browser.wait("return document.querySelector('.found').textContent") == said
    assert {name for name in names if browser.run(FILL, name) != before[name]} == found
    opened_alone(browser, tmp_path)


def test_text_that_is_html_script_or_template_is_text(browser: Browser, tmp_path: Path) -> None:
    """GIVEN names that HTML, JSON, a script or a template could obey, THEN each is in the page as it is written."""
    said = moments(4, phase=HOSTILE, status=HOSTILE)
    text = show(browser, tmp_path, one_report(Shown(hostile(), CLAIMS, said, RIGHT)))
    for name in (HOSTILE, *OTHERS):
        assert name in text, name
    frames = browser.wait(WIDTHS)
    assert {HOSTILE, *OTHERS} <= set(frames)
    assert browser.run("return document.querySelectorAll('main img, main script, main svg svg').length") == 0
    browser.click("return document.querySelectorAll('.flame g.frame rect')[2]")
    browser.type(".tools input", HOSTILE)
    assert "found" in browser.wait("return document.querySelector('.found').textContent")
    opened_alone(browser, tmp_path)


def test_a_script_that_came_into_the_page_would_not_run(browser: Browser, tmp_path: Path) -> None:
    """The policy holds if everything else fails: no script but the file's own, no request, no HTML from text."""
    show(browser, tmp_path, one_report(Shown(LEAK)))
    opened_alone(browser, tmp_path)
    outcome = browser.run(
        "const script = document.createElement('script'); let refused = 0;"
        "try { script.textContent = 'window.taken = 1'; } catch { refused += 1; }"
        "try { document.body.innerHTML = '<b>taken</b>'; } catch { refused += 1; }"
        "script.append('window.taken = 1'); document.body.append(script);"
        "return [refused, window.taken || 0]"
    )
    assert outcome == [2, 0]


def test_nothing_in_the_page_reaches_the_network(browser: Browser, tmp_path: Path) -> None:
    show(browser, tmp_path, one_report(Shown(LEAK)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        browser.run(
            "window.refused = []; const [url] = arguments; const image = new Image();"
            "image.onerror = () => window.refused.push('image'); image.src = url;"
            "fetch(url).catch(() => window.refused.push('fetch'));"
            "try { new WebSocket(url.replace('http', 'ws')).onerror = () => window.refused.push('socket'); }"
            "catch { window.refused.push('socket'); }",
            url,
        )
        assert set(browser.wait("return window.refused.length === 3 && window.refused")) == {"image", "fetch", "socket"}
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_two_reports_are_one_page_with_both(browser: Browser, tmp_path: Path) -> None:
    show(browser, tmp_path, two_reports(LEAK, FIXED))
    cards = browser.run("return [...document.querySelectorAll('.verdict')].map((card) => card.innerText)")
    assert [card.split("\n")[0].lower() for card in cards] == ["before: leak", "after: no leak"]
    rows = browser.run(
        "return [...document.querySelectorAll('table.changes tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.innerText.replace(/\\s+/g, ' ').trim()))"
    )
    assert ["cache_insert from cache_refresh", "192 MiB", "0 B", "-192 MiB"] in rows
    assert ["render from handle_request", "24.0 MiB", "24.0 MiB", "0 B"] in rows
    roots = browser.wait(
        "const graphs = [...document.querySelectorAll('.flame')];"
        "return graphs.every((each) => each.querySelector('g.frame'))"
        " && graphs.map((each) => [...each.querySelectorAll('g.frame')].map((frame) => frame.getAttribute('name')))"
    )
    assert len(roots) == 2
    assert "cache_insert" in roots[0]
    assert "cache_insert" not in roots[1]
    assert "render" in roots[1]
    opened_alone(browser, tmp_path)


def test_a_report_that_found_nothing_is_a_page_too(browser: Browser, tmp_path: Path) -> None:
    text = show(browser, tmp_path, one_report(Shown(EMPTY)))
    assert "No stack holds a byte" in text
    assert EMPTY.report.verdict.summary in text
    opened_alone(browser, tmp_path)


def test_the_deepest_stacks_and_thousands_of_them_are_drawn(browser: Browser, tmp_path: Path) -> None:
    deep = stack(MIB, *(LEAK.report.stacks[0].frames[1:2] * 512))
    wide = [stack(100, *LEAK.report.stacks[i % 2].frames[: 1 + i % 6]) for i in range(5_000)]
    made = report(deep, *wide, verdict=LEAK.report.verdict)
    show(browser, tmp_path, one_report(Shown(type(LEAK)(made, LEAK.origin))))
    assert browser.wait("return document.querySelectorAll('.flame g.frame').length") > 500
    opened_alone(browser, tmp_path)


def test_figures_read_as_those_on_a_terminal(browser: Browser, tmp_path: Path) -> None:
    """The page writes sizes by a function of its own: the same texts as Python's, also in a chart's table."""
    sizes = [0, 1, 1023, 1024, 10_240, 1_048_575, 1_048_576, 104_857_599, 1_059_061_760, 1 << 30, 5_000_000_000]
    made = moments(len(sizes))
    known = [
        type(moment)(**{**vars(moment), "resident_bytes": size, "ledger_bytes": 0, "claims": claims(0)})
        for moment, size in zip(made, sizes, strict=True)
    ]
    show(browser, tmp_path, one_report(Shown(LEAK, CLAIMS, known)))
    column = browser.wait(
        "const [table] = document.querySelectorAll('.chart table');"
        "return [...table.tBodies[0].rows].map((row) => row.cells[1].textContent)"
    )
    assert column == [format_size(size) for size in sizes]
    oldest = browser.run("return document.querySelector('table.sites tbody tr').lastElementChild.textContent")
    assert oldest == format_duration(9.5)


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_the_light_and_in_the_dark(tmp_path: Path, *, dark: bool) -> None:
    """Every text has the contrast that WCAG asks for: 4.5 to 1."""
    with Browser(dark=dark) as browser:
        show(browser, tmp_path, one_report(Shown(LEAK, CLAIMS, moments(), RIGHT)))
        assert browser.run("return matchMedia('(prefers-color-scheme: dark)').matches") is dark
        assert browser.run(CONTRASTS) == []


def test_the_readme_s_picture_is_taken_of_a_page(tmp_path: Path) -> None:
    """`make picture`, without the run: a PNG of its size, in which something is drawn."""
    page, taken = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(render(one_report(Shown(LEAK, CLAIMS, moments(), RIGHT))), encoding="utf-8")
    picture.take(find_browser(), page, taken)
    content = taken.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (picture.WIDTH, picture.HEIGHT)
    assert len(content) > 50_000


CONTRASTS = """
    const channels = (color) => (color.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
    const light = ([r, g, b]) => {
        const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        return 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    };
    const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
            if (each.matches('foreignObject')) {
                return channels(getComputedStyle(each.parentNode.querySelector('rect')).fill);
            }
            const color = channels(getComputedStyle(each).backgroundColor);
            if (color[3] === undefined || color[3] > 0.99) return color;
        }
        return [255, 255, 255];
    };
    const weak = [];
    const walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const element = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const drawn = element.closest('svg') && !element.closest('foreignObject');
        const ink = light(channels(drawn ? style.fill : style.color));
        const paper = light(behind(element));
        const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        if (contrast < 4.5) weak.push(`${element.tagName} ${walk.currentNode.data} ${contrast.toFixed(2)}`);
    }
    return weak;
"""
