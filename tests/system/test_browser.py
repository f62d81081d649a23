"""The report and the dashboard as a browser shows them: Debian's Chromium, driven by Selenium."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas import report
from nas.run import folder, search_options
from nas.study.opening import open_study
from nas.trial import Result
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow
TRIALS = 60
WIDE, PHONE = (1280, 900), (390, 844)
WAIT_S = 30


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made through the study alone, with enough trials for every figure and an outcome of every kind."""
    run, rng = tmp_path_factory.mktemp("browser") / "a run", random.Random(0)
    words = ["--budget", "100MFLOPs", "--space", "rexnet", "--trials", "70", "--sampler", "random"]
    config = search_options.config_from_args(search_options.parser().parse_args(words))
    with folder.lock_run(run, config):
        study = open_study(run, config)
        study.validation_images = 300
        for index in range(TRIALS):
            trial = study.ask()
            accuracy = 0.5 + 0.4 * rng.random()
            if index == 7:
                study.tell(trial, error="out of memory: <b>all of it</b>")
            elif index < TRIALS - 1:
                study.report(trial, Result(epoch=1, score=accuracy, loss=1.0, images_per_s=9, contended_ms=3))
                study.tell(trial, accuracy, pruned=index % 5 == 1)
    assert report.main([str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium, driver = installed()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    shown = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield shown
    shown.quit()


def installed() -> tuple[str, str]:
    """Where Chromium and its driver are, installed where this process may do so; else the tests are skipped."""
    names = ("chromium", "chromedriver")
    if not all(map(shutil.which, names)) and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "chromium", "chromium-driver"]):
            subprocess.run(command, capture_output=True, timeout=600, check=False)
    found = [shutil.which(name) for name in names]
    if None in found:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    return str(found[0]), str(found[1])


def sized(browser: Any, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def seen(browser: Any, css: str, text: str = "") -> Any:
    """The first element that is displayed and has the text, once it is there."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def found(shown: Any) -> Any:
        elements = shown.find_elements(By.CSS_SELECTOR, css)
        return next((one for one in elements if one.is_displayed() and text in one.text), None)

    waiting = WebDriverWait(browser, WAIT_S, ignored_exceptions=[StaleElementReferenceException])
    return waiting.until(found, f"no {css} with {text!r}")


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_the_report_is_legible(run: Path, browser: Any, size: tuple[int, int]) -> None:
    sized(browser, size)
    browser.get((run / "report.html").as_uri())
    assert "rexnet.yaml within 100MFLOPs" in seen(browser, "h1").text
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    drawn = browser.execute_script(FIGURES)
    titles = {title for figure in drawn for title in figure["texts"]}
    assert {"Search and random control", "Learning curves", "Accuracy against latency", "Channels over depth"} <= titles
    assert any(title.startswith("Parameter importance (") for title in titles)
    assert len(drawn) == 3 + 3 + 3 + 1 + 1
    assert browser.execute_script(COVERED) == []
    for figure in drawn:
        assert 250 <= figure["width"] <= size[0]
        assert figure["height"] > 100
        assert figure["smallest"] >= 7
        assert figure["caption"]
    columns = len({figure["left"] for figure in drawn})
    assert columns == (3 if size == WIDE else 1)
    seen(browser, "summary", f"{TRIALS} trials").click()
    rows = browser.execute_script("return document.querySelectorAll('details[open] table.sortable tr').length")
    assert rows == 1 + TRIALS
    assert seen(browser, "td.text", "out of memory: <b>all of it</b>")
    assert complaints(browser) == []


def test_a_dot_tells_its_trial_and_leads_to_its_network(run: Path, browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    sized(browser, WIDE)
    browser.get((run / "report.html").as_uri())
    dots = browser.find_elements("css selector", "figure a.dot use, figure a.dot path")
    dot = next(one for one in dots if one.find_element("xpath", "..").get_dom_attribute("href") == "#trial-3")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", dot)
    ActionChains(browser).move_to_element(dot).perform()
    said = seen(browser, "#tip").text
    assert re.search(
        r"trial 3 \((control|known network \w+)\)(, pruned)?, accuracy 0\.\d{4} \[0\.\d{4}, 0\.\d{4}\], .*MFLOPs", said
    )
    assert " blocks: " in said
    assert len(browser.find_elements("css selector", ".same")) > 4
    assert not browser.find_element("id", "trial-3").is_displayed()
    dot.click()
    network = seen(browser, "#trial-3")
    for part in (".sketch", ".layers", ".network"):
        assert network.find_element("css selector", part).is_displayed()
    assert 0 <= browser.execute_script("return arguments[0].getBoundingClientRect().top", network) < WIDE[1]
    assert complaints(browser) == []


def test_tables_sort_by_their_heads_also_by_keyboard(run: Path, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    sized(browser, PHONE)
    browser.get((run / "report.html").as_uri())
    seen(browser, "summary", f"{TRIALS} trials").click()

    def column(name: str) -> list[str]:
        return browser.execute_script(COLUMN, name)  # type: ignore[no-any-return]

    button = next(
        one for one in browser.find_elements("css selector", "details[open] th button") if one.text == "MFLOPs"
    )
    button.click()
    told = [float(cell) for cell in column("MFLOPs")]
    assert told == sorted(told)
    assert len(told) == TRIALS
    button.send_keys(Keys.ENTER)
    assert [float(cell) for cell in column("MFLOPs")] == told[::-1]
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    for one in browser.find_elements("css selector", "details[open] th button"):
        if one.text == "accuracy":
            one.send_keys(Keys.SPACE)
    cells = column("accuracy")
    assert cells[-2:] == ["", ""]  # what has no accuracy stays last
    assert [float(cell) for cell in cells[:-2]] == sorted(float(cell) for cell in cells[:-2])
    assert complaints(browser) == []


def test_without_its_script_the_page_says_and_links_the_same(run: Path, browser: Any) -> None:
    sized(browser, WIDE)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((run / "report.html").as_uri())
        assert browser.find_elements("css selector", "figure a.dot title")
        assert not browser.find_elements("css selector", "th button")
        browser.get(f"{(run / 'report.html').as_uri()}#trial-3")
        assert seen(browser, "#trial-3 .layers")  # browsers unfold what holds a link's target
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


COLUMN = """const table = document.querySelector("details[open] table.sortable");
  const index = [...table.tHead.rows[0].cells].findIndex(head => head.textContent === arguments[0]);
  return [...table.tBodies[0].rows].map(row => row.cells[index].textContent);"""
# Words of a figure that lie on other words of it.
COVERED = """const found = [];
  for (const figure of document.querySelectorAll('figure')) {
    const boxes = [...figure.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([said, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 2 && down > 4) found.push(`${said} on ${other}`);
    }));
  }
  return found;"""
FIGURES = """return [...document.querySelectorAll('figure')].map(figure => {
  const box = figure.querySelector('svg').getBoundingClientRect();
  const texts = [...figure.querySelectorAll('text')];
  return {
    left: Math.round(box.left), width: box.width, height: box.height,
    texts: texts.map(text => text.textContent),
    smallest: Math.min(...texts.map(text => parseFloat(getComputedStyle(text).fontSize)
      * Math.hypot(text.getScreenCTM().c, text.getScreenCTM().d))),
    caption: figure.querySelector('figcaption').textContent};
})"""


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", "nas.dashboard", str(run), "--port", "18093"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = re.search(r"http://\S+", server.stdout.readline())
        assert said is not None
        yield said[0]
        server.terminate()


def test_the_dashboard_shows_the_run(run: Path, browser: Any, address: str) -> None:
    sized(browser, WIDE)
    browser.get(address)
    seen(browser, "a[href$='/studies/1']", "a run").click()
    assert seen(browser, "h6, h5, h4, h3", "Hyperparameter Importance")
    assert seen(browser, ".js-plotly-plot .barlayer .bars .point")
    assert seen(browser, ".js-plotly-plot .scatterlayer .trace")
    assert seen(browser, "h6, h5, h4, h3", "Best Trial")
    browser.get(f"{address}/dashboard/studies/1/note")
    assert seen(browser, "h1", "within 100MFLOPs")
    assert seen(browser, "li", "60 trials: ")
    assert seen(browser, "th", "accuracy")
    loaded(browser)
    assert complaints(browser) == []


def test_the_dashboard_shows_a_trial(run: Path, browser: Any, address: str) -> None:
    sized(browser, WIDE)
    browser.get(f"{address}/dashboard/studies/1/trials?numbers=0")
    assert seen(browser, "strong", "Known network: rexnet_100, scaled to the budget.")
    assert seen(browser, "td", "stem")
    assert seen(browser, "th", "activations")
    loaded(browser)
    assert seen(browser, "h5, h6, h4, h3", "Artifacts")
    assert seen(browser, "img[src^='/artifacts/1/1/']")
    browser.get(f"{address}/dashboard/studies/1/trials?numbers=7")
    assert seen(browser, "p", "out of memory: <b>all of it</b>")
    assert seen(browser, "*[class*=Chip]", "Fail")
    assert complaints(browser) == []


def loaded(browser: Any) -> None:
    """The pictures of a note are there and have a size."""
    picture = seen(browser, "img[alt^='channels']")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, WAIT_S).until(lambda shown: picture.get_property("naturalWidth") > 500)
    assert picture.rect["width"] > 300
