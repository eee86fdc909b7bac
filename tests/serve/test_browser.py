"""The open page follows the run by itself and leaves its reader in place."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from ipfl.serve import reader
from ipfl.serve.app import create_app
from ipfl.upkeep.folder import held
from serve.conftest import ROUNDS

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,800"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, browser_paths: tuple[str, str]) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location, chromedriver = browser_paths
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service(chromedriver), options=options)  # a path: nothing is downloaded
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def serve() -> Iterator[Any]:
    """serve(folder) -> its address."""
    servers = []

    def start(folder: Path) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(create_app(folder, None), log_level="error", lifespan="off", ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        servers.append((server, thread, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for server, thread, listener in servers:
        server.should_exit = True
        thread.join(10)
        listener.close()


def until(driver, script, wanted, seconds=20):
    """Wait until a script says what is wanted."""
    end = time.monotonic() + seconds
    while (found := driver.execute_script(f"return {script}")) != wanted:
        assert time.monotonic() < end, f"{script}: {found!r}, not {wanted!r}"
        time.sleep(0.1)


NOTE = "document.getElementById('live')?.textContent"
SHOWN = "document.getElementById('live')?.dataset.rounds"


def test_the_page_follows_the_run_and_the_reader_stays_in_place(driver, serve, grow, monkeypatch):
    monkeypatch.setattr(reader, "SECONDS_BETWEEN_PROBES", 0.0)
    folder = grow(0)
    with held(folder):
        driver.get(serve(folder))
        until(driver, NOTE, f"round 0 of {ROUNDS}, live")
        grow(2)
        until(driver, f"{SHOWN} + {NOTE}", f"2round 2 of {ROUNDS}, live")  # the waiting page became the run's
        driver.execute_script(
            "const set = (id, to) => { const e = document.getElementById(id); e.value = to;"
            " for (const event of ['input', 'change']) e.dispatchEvent(new Event(event)); };"
            "set('round', 0); set('person', 1); document.getElementById('heat-all').click();"
            "document.querySelector('details').open = true;"
            "scrollTo({ top: 1500, behavior: 'instant' }); window.before = true"
        )
        top = "Math.round(document.getElementById('participants').getBoundingClientRect().top)"
        before = driver.execute_script(f"return {top}")
        time.sleep(3)
        assert driver.execute_script("return window.before")  # nothing changed: nothing is loaded again
        grow(3)
        until(driver, f"{SHOWN} + {NOTE}", f"3round 3 of {ROUNDS}, live")
    assert driver.execute_script("return window.before ?? null") is None
    chosen = "['round', 'person'].map((id) => document.getElementById(id).value).join()"
    assert driver.execute_script(f"return {chosen}") == "0,1"
    assert driver.execute_script("return document.getElementById('heat-all').ariaPressed") == "true"
    assert driver.execute_script("return document.querySelector('details').open")
    assert abs(driver.execute_script(f"return {top}") - before) <= 60, "the reader was moved"
    assert driver.execute_script("return scrollY") > 1000
    until(driver, NOTE, f"round 3 of {ROUNDS}, paused")
    grow(ROUNDS)
    until(driver, NOTE, f"{ROUNDS} rounds, finished")
    driver.execute_script(
        "window.asked = 0; const ask = fetch; fetch = (...a) => { asked += 1; return ask(...a); }"
    )
    time.sleep(3)
    assert driver.execute_script("return window.asked") == 0
    assert [entry["message"] for entry in driver.get_log("browser")] == []
