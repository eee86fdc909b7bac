"""The page in a real browser: quiet, alone, as wide as the screen, and it shows what the runs say."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import grids
from ipfl.comparison.outputs import write_comparison

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
METHODS = ("local", "fedavg", "fedprox", "cfl", "ditto", "fedamp", "fedfomo", "pfedgraph", "ipfl")


@pytest.fixture(scope="module")
def driver(tmp_path_factory, browser_paths):
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
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """All methods, two variants."""

    def people(cell):
        step = 0.01 * METHODS.index(cell.method) * (-1 if cell.variant == "b" else 1)
        return [
            grids.person(f"p{k}", 0.5 + step * (k - 1), 0.5, utility=k + 10 * step + cell.seed)
            for k in range(4)
        ]

    folder = tmp_path_factory.mktemp("page")
    results = grids.make_results(folder, grids.make_grid(METHODS, variants=("a", "b")), people)
    write_comparison(results, "ipfl compare")
    return folder / "comparison.html"


def show(driver: Any, path: Path, width: int = 1280, theme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get_log("browser"), driver.get_log("performance")
    driver.get(path.as_uri())


def series(driver: Any, chart: str) -> list[Any]:
    return driver.execute_script(
        "const o = echarts.getInstanceByDom(document.getElementById(arguments[0])).getOption();"
        "return JSON.parse(JSON.stringify(o.series.map(s => ({name: s.name ?? null, data: s.data}))))",
        chart,
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_quiet_alone_and_as_wide_as_the_screen(driver, page, width, theme):
    show(driver, page, width, theme)
    assert driver.execute_script("return document.documentElement.dataset.ready") == "yes"
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").rstrip(")").split(","))
    assert (brightness > 600) == (theme == "light")
    assert driver.execute_script("return document.querySelectorAll('.chart svg').length") == 3
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_charts_show_what_the_runs_say(driver, page):
    show(driver, page)
    points = {point["name"]: point["value"] for point in series(driver, "scatter")[1]["data"]}
    assert set(points) == set(METHODS)
    # of the participants k = 0..3 the mean is 0.5 + 0.5 step held out, and 0.1 more by the paper's protocol
    assert points["ipfl"] == [pytest.approx(1.5 + 0.8 + 1), pytest.approx(100 * (0.6 + 0.5 * 0.08))]
    driver.execute_script("document.getElementById('protocol-held_out').click()")
    points = {point["name"]: point["value"] for point in series(driver, "scatter")[1]["data"]}
    assert points["ipfl"][1] == pytest.approx(100 * (0.5 + 0.5 * 0.08))
    dots = series(driver, "dots")[0]["data"]
    assert len(dots) == len(METHODS) * 4 * 3
    assert {dot["value"][0] for dot in dots if dot["method"] == "ipfl"} == {-8, 0, 8, 16}
    assert [line["name"] for line in series(driver, "curve")] == list(METHODS)


def test_another_variant_is_drawn_when_it_is_chosen(driver, page):
    show(driver, page)
    driver.execute_script(
        "const s = document.getElementById('variant'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    )
    points = {point["name"]: point["value"][1] for point in series(driver, "scatter")[1]["data"]}
    assert points["ipfl"] == pytest.approx(100 * (0.6 - 0.5 * 0.08))


def test_labels_at_the_ends_of_lines_do_not_cover_each_other(driver, page):
    show(driver, page)
    tops = driver.execute_script(
        "return [...document.querySelectorAll('#curve svg text')].filter(t => arguments[0].includes(t.textContent))"
        ".map(t => t.getBoundingClientRect().top)",
        list(METHODS),
    )
    assert len(tops) == len(METHODS)
    ordered = sorted(tops)
    assert min(b - a for a, b in pairwise(ordered)) > 10


def test_every_control_and_chart_has_a_name(driver, page):
    show(driver, page)
    nameless = driver.execute_script(
        "const all = document.querySelectorAll('button, select, input, img, [role=img], [role=region]');"
        "return [...all].filter(e => !(e.textContent.trim() || e.ariaLabel || e.alt || e.labels?.length))"
        ".map(e => e.outerHTML.slice(0, 200))"
    )
    assert nameless == []
