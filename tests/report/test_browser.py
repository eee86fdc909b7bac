"""The page in a real browser: it says what the run folder says, alone, quietly and for everyone."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipfl.report import not_bought, render_page, trades, write_page
from ipfl.run_folder import load_run, write_partition
from ipfl.types.partition import PartitionTable

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


class Page:
    """A page in the browser, and questions to ask it."""

    def __init__(self, driver: Any):
        self.driver = driver

    def open(self, path: Path, *, width: int = 1280, theme: str = "light") -> "Page":
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.logs(), self.requests()
        self.driver.get(path.as_uri())
        return self

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def set(self, element: str, value: object) -> None:
        self.js(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'))",
            element,
            str(value),
        )

    def click(self, element: str) -> None:
        self.js("document.getElementById(arguments[0]).click()", element)

    def table(self, place: str, part: str = "tbody") -> list[list[str]]:
        return self.js(
            f"return [...document.querySelectorAll('#{place} {part} tr')]"
            ".map(row => [...row.cells].map(cell => cell.textContent))"
        )

    def option(self, chart: str) -> dict[str, Any]:
        return self.js(
            "const o = echarts.getInstanceByDom(document.getElementById(arguments[0])).getOption();"
            "return {data: JSON.parse(JSON.stringify(o.series.map(s => s.data))),"
            " links: JSON.parse(JSON.stringify(o.series[0].links ?? o.series[0].edges ?? []))}",
            chart,
        )

    def logs(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, browser_paths: tuple[str, str]) -> Iterator[Page]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location, chromedriver = browser_paths
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service(chromedriver), options=options)  # a path: nothing is downloaded
    driver.set_page_load_timeout(60)
    yield Page(driver)
    driver.quit()


@pytest.fixture(scope="module")
def report(finished_run: Path) -> Path:
    return write_page(finished_run)


def number(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-").replace("%", ""))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_quiet_alone_and_as_wide_as_the_screen(page, report, width, theme):
    page.open(report, width=width, theme=theme)
    assert page.js("return document.documentElement.dataset.ready") == "yes"
    assert page.js("return document.documentElement.scrollWidth") <= width
    background = page.js("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").rstrip(")").split(","))
    assert (brightness > 600) == (theme == "light")
    assert page.js("return document.querySelectorAll('.chart svg').length") == 8
    assert page.logs() == []
    assert [url for url in page.requests() if not url.startswith(("file:", "data:"))] == []


def test_the_policy_forbids_what_the_page_does_not_need(page, report):
    page.open(report)
    policy = page.js("return document.querySelector('meta[http-equiv]').content")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    ran = page.js(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s);"
        "return window.ran ?? 0"
    )
    assert ran == 0
    assert any("Content Security Policy" in message for message in page.logs())


def test_every_round_shows_its_own_graph_and_trades(page, report, finished_run):
    run = load_run(finished_run)
    page.open(report)
    for round_index in range(6):
        page.set("round", round_index)
        edges = [edge for edge in run.edges if edge["round_index"] == round_index]
        assert page.js("return document.getElementById('round-shown').textContent") == str(round_index)
        shown = page.option("graph")
        assert len(shown["data"][0]) == 12
        pairs = [
            (run.participant_ids[link["source"]], run.participant_ids[link["target"]])
            for link in shown["links"]
        ]
        assert Counter(pairs) == Counter((edge["buyer"], edge["seller"]) for edge in edges)
        assert len(page.option("heat")["data"][0]) == len(edges)
        rows = page.table("why")
        assert {(row[0], row[1], row[7]) for row in rows} == {
            (edge["buyer"], edge["seller"], f"{edge['payment']:.3f}") for edge in edges
        }
        total = math.fsum(row["amount"] for row in run.ledger if row["round_index"] == round_index)
        assert page.table("why", "tfoot")[0][7] == f"{total:.3f}"
        assert page.table("why", "tfoot")[0][0] == f"{len(edges)} trades"
    assert page.logs() == []


def test_the_reasons_of_trades_are_those_of_the_run(page, report, finished_run):
    page.open(report)
    expected = {(trade.buyer, trade.seller): trade for trade in trades(load_run(finished_run), 5)}
    for row in page.table("why"):
        trade = expected[row[0], row[1]]
        amounts = (trade.num_examples, trade.distance, trade.marginal_gain, trade.friction, trade.export_cost)
        assert [number(text) for text in row[2:7]] == pytest.approx(amounts, abs=5.1e-4)
        assert [number(text) for text in row[9:11]] == pytest.approx(
            (trade.buyer_kept, trade.seller_kept), abs=5.2e-4
        )


def test_models_not_bought_are_shown_on_demand(page, report, finished_run):
    page.open(report)
    assert not page.js("return document.getElementById('refused').checkVisibility()")
    page.click("refused-toggle")
    refused = not_bought(load_run(finished_run), 5)
    assert {(row[0], row[1]) for row in page.table("refused")} == {(row.buyer, row.seller) for row in refused}


def test_the_bill_is_the_summary_and_its_totals_the_ledger(page, report, finished_run):
    run = load_run(finished_run)
    page.open(report)
    for row, expected in zip(page.table("bill"), run.summary["participants"], strict=True):
        assert row[:2] == [expected["id"], expected["kind"]]
        assert row[3:5] == [f"{expected['accuracy']:.1%}", f"{expected['accuracy_alone']:.1%}"]
        keys = ("gain", "cost", "paid", "received", "utility", "imports", "exports")
        assert [number(text) for text in row[5:]] == pytest.approx(
            [expected[key] for key in keys], abs=5.1e-3
        )
    ledger = math.fsum(row["amount"] for row in run.ledger)
    footer = page.table("bill", "tfoot")[0]
    assert [number(footer[7]), number(footer[8])] == pytest.approx([ledger, ledger], abs=5.1e-3)


def test_bill_sorts_by_a_click(page, report):
    page.open(report)
    page.js("document.querySelector('#bill th[data-key=utility] button').click()")
    shown = [number(row[9]) for row in page.table("bill")]
    assert shown == sorted(shown, reverse=True)
    assert page.js("return document.querySelector('#bill th[data-key=utility]').ariaSort") == "descending"


def test_whole_run_heat_map_adds_up_to_the_ledger(page, report, finished_run):
    run = load_run(finished_run)
    page.open(report)
    page.click("heat-all")
    ledger = math.fsum(row["amount"] for row in run.ledger)
    assert number(page.table("heat-table", "tfoot")[0][2]) == pytest.approx(ledger, abs=5.1e-4)
    assert len(page.option("heat")["data"][0]) == len({(edge["buyer"], edge["seller"]) for edge in run.edges})


def test_my_page_is_my_part_of_the_run_folder(page, report, finished_run):
    run = load_run(finished_run)
    page.open(report)
    page.set("me", 3)
    tiles = page.js("return [...document.querySelectorAll('#tiles dd')].map(d => d.firstChild.textContent)")
    mine = run.summary["participants"][3]
    expected = (mine["paid"], mine["received"], mine["received"] - mine["paid"], mine["utility"])
    assert [number(text) for text in tiles[1:]] == pytest.approx(expected, abs=5.1e-3)
    footer = page.table("partners", "tfoot")[0]
    paid = math.fsum(row["amount"] for row in run.ledger if row["payer"] == "clinic-03")
    received = math.fsum(row["amount"] for row in run.ledger if row["payee"] == "clinic-03")
    assert [number(footer[2]), number(footer[4])] == pytest.approx([paid, received], abs=5.1e-4)
    assert all("clinic-03" in row[:2] for row in page.table("why"))


def test_choosing_a_participant_in_the_graph(page, report):
    page.open(report)
    x, y = page.js(
        "const d = document.getElementById('graph');"
        "d.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const node = echarts.getInstanceByDom(d).getOption().series[0].data[2];"
        "const box = d.getBoundingClientRect();"
        "return [box.x + node.x, box.y + node.y]"
    )
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    wait_for(page, "return document.getElementById('person').value === '2'")
    assert all("clinic-02" in row[:2] for row in page.table("why"))


def test_hovering_a_cell_says_why(page, report):
    page.open(report)
    page.js(
        "echarts.getInstanceByDom(document.getElementById('heat')).dispatchAction("
        "{type: 'showTip', seriesIndex: 0, dataIndex: 0})"
    )
    wait_for(page, "return document.querySelector('#heat .tip') !== null")
    text = page.js("return document.querySelector('#heat .tip').textContent")
    assert " bought from " in text
    for word in ("price", "friction", "distance", "adds"):
        assert word in text


def test_keyboard_alone_is_enough(page, report):
    from selenium.webdriver.common.keys import Keys

    page.open(report)
    page.driver.find_element("id", "round").send_keys(Keys.ARROW_LEFT)
    assert page.js("return document.getElementById('round-shown').textContent") == "4"
    page.driver.find_element("id", "person").send_keys("clinic-04")
    assert page.js("return document.getElementById('person').value") == "4"
    head = page.driver.find_element("css selector", "#why thead th:nth-child(4) button")
    head.send_keys(Keys.ENTER)
    assert page.js("return document.querySelector('#why thead th:nth-child(4)').ariaSort") == "descending"
    assert page.js("return document.activeElement.textContent") == "distance"
    page.driver.find_element("id", "theme").send_keys(Keys.ENTER, Keys.ENTER)
    assert page.js("return document.documentElement.dataset.theme") == "dark"
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert page.js("return document.getElementById('person').value") == ""


def test_every_control_and_chart_has_a_name(page, report):
    page.open(report)
    nameless = page.js(
        "const all = document.querySelectorAll('button, select, input, [role=img], [role=region]');"
        "return [...all].filter(e =>"
        " !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.getAttribute('aria-labelledby')))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []


HOSTILE = "</script><img src=x onerror='window.hacked=1'><b>{{7*7}}</b>\u2028"


def test_hostile_strings_are_inert(page, finished_run, tmp_path):
    """Ids are restricted before they get here; the page does not count on it."""
    run = load_run(finished_run)
    first = run.participant_ids[0]
    text = json.dumps(
        {"rounds": run.rounds, "edges": run.edges, "ledger": run.ledger, "summary": run.summary}
    )
    changed = json.loads(text.replace(json.dumps(first), json.dumps(HOSTILE)))
    rows = tuple(
        row.model_copy(update={"id": HOSTILE}) if row.id == first else row
        for row in run.config.participants.rows
    )
    participants = run.config.participants.model_copy(update={"rows": rows})
    config = run.config.model_copy(update={"participants": participants, "task": HOSTILE})
    changed["rounds"][1]["participants"][1]["refusal"] = HOSTILE
    environment = run.environment | {"platform": HOSTILE}
    path = tmp_path / "report.html"
    hostile = type(run)(path=run.path, config=config, environment=environment, **changed)
    path.write_text(render_page(hostile), encoding="utf-8")
    page.open(path)
    page.set("person", 0)
    page.click("refused-toggle")
    for chart in ("heat", "accuracy", "utility"):
        page.js(
            "echarts.getInstanceByDom(document.getElementById(arguments[0])).dispatchAction("
            "{type: 'showTip', seriesIndex: arguments[1], dataIndex: 0})",
            chart,
            1 if chart == "accuracy" else 0,
        )
    wait_for(page, "return document.querySelectorAll('.tip').length >= 3")
    assert page.js("return window.hacked ?? 0") == 0
    assert page.js("return document.querySelectorAll('img, b:not(.span b)').length") == 0
    assert page.js("return document.querySelector('#bill .name').textContent") == HOSTILE
    assert page.logs() == []


@pytest.mark.parametrize("rounds", [20, pytest.param(72, id="in-full", marks=pytest.mark.slow)])
def test_a_large_run_stays_small(page, make_run, tmp_path, rounds):
    """Both have more trades than a page shows; of 72 rounds, the curves too are all that it shows."""
    kinds = ("trader",) * 85 + ("buyer",) * 10 + ("seller",) * 3 + ("attacker",) * 2
    folder = make_run(tmp_path / "large", kinds=kinds, rounds=rounds, prefix="bank-")
    path = write_page(folder)
    assert path.stat().st_size < 2_000_000
    page.open(path)
    assert page.js("return document.documentElement.dataset.ready") == "yes"
    assert "Trades are shown for" in page.js("return document.body.textContent")
    assert page.logs() == []


def test_unfinished_and_empty_runs_have_a_page(page, make_run, tmp_path):
    page.open(write_page(make_run(tmp_path / "unfinished", rounds=2, planned=5)))
    assert "2 of 5" in page.js("return document.querySelector('[data-point=progress] .figure').textContent")
    assert page.logs() == []
    page.open(write_page(make_run(tmp_path / "empty", rounds=0, planned=5)))
    assert page.js("return document.querySelectorAll('#bill tbody tr').length") == 12
    assert page.logs() == []


def wait_for(page: Page, condition: str, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not page.js(condition):
        assert time.monotonic() < end, f"not within {timeout_s} s: {condition}"
        time.sleep(0.05)


def contrast(page: Page, cell: str) -> float:
    """The WCAG contrast between the text of an element and what is behind it."""
    return page.js(
        """const style = getComputedStyle(document.querySelector(arguments[0]));
        const light = (colour) => {
          const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
          const linear = parts.map((part) => (colour.startsWith("rgb") ? part / 255 : part))
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
          return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        };
        const [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);""",
        cell,
    )


@pytest.fixture(scope="module")
def shared_out(make_run, tmp_path_factory):
    """(page, counts) of a small and of a large partition."""
    pages = []
    for m, classes in ((12, 10), (100, 62)):
        folder = make_run(tmp_path_factory.mktemp("shares") / f"run-{m}", kinds=("trader",) * 12, rounds=1)
        counts = np.arange(m * classes).reshape(m, classes) % 91
        ids = tuple(f"writer-{index:03d}" for index in range(m))
        names = tuple(str(index) for index in range(classes))
        none = np.zeros_like(counts)
        write_partition(
            folder, PartitionTable("natural", {}, ids, names, counts, none, counts, None, "ab" * 32)
        )
        pages.append((write_page(folder), counts))
    return pages


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_who_has_what_is_readable_at_any_size(page, shared_out, width, theme):
    for path, counts in shared_out:
        page.open(path, width=width, theme=theme)
        assert page.js("return document.documentElement.scrollWidth") <= width
        assert page.js("return document.querySelectorAll('#shares tbody tr').length") == len(counts)
        assert page.js("return document.querySelectorAll('#shares .s9').length") == int((counts > 80).sum())
        sizes = "const box = document.querySelector('#shares .s5').getBoundingClientRect(); return "
        assert page.js(sizes + "Math.min(box.width, box.height)") >= 13
        for level in range(1, 10):
            assert contrast(page, f"#shares .s{level}") >= 4.5, level
        assert page.logs() == []
    if width == 1280:  # a hundred participants by sixty-two classes: all of a row in sight
        table, scroller = (
            "document.querySelector('#shares table')",
            "document.querySelector('#shares .scroll')",
        )
        assert page.js(f"return {table}.offsetWidth <= {scroller}.clientWidth")
