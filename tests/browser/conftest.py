"""A report of four photographs, opened in Chromium."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.study import tables
from scorecam_jax.visualize import grids
from scorecam_jax.visualize.report import photograph, report

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
METHODS = ("score-cam", "grad-cam", "signed")
NAMES = ("bear.jpg", "<img src=x onerror=alert(1)>.jpg", "cat.jpg", "ant.jpg")
INPUT = (56, 64)


def maps(number):
    """Each method's heatmaps of two classes, and the sums behind them."""
    random = np.random.default_rng(number)
    found, sums = {}, {}
    for method in METHODS:
        sums[method] = random.uniform(-0.6, 1, (2, 7, 8))
        enlarged = np.stack([grids.enlarge(one, INPUT) for one in sums[method]])
        if method != "signed":
            enlarged = enlarged.clip(0)
        found[method] = enlarged / np.abs(enlarged).max((1, 2), keepdims=True)
    return found, sums


def photographs():
    """Four photographs. The network sees the middle of the second, and pads the third."""
    shown = []
    for number, name in enumerate(NAMES):
        heatmaps, sums = maps(number)
        values = np.random.default_rng(number).integers(0, 256, (12, 16, 3)).astype(np.uint8)
        shown.append(
            photograph(
                name,
                Image.fromarray(values).resize((320, 240)),
                [(f"animal {number}, beast", 0.9 - number / 10), ("</script>", 0.0004)],
                heatmaps,
                sums=sums,
                seen=(40, 0, 280, 240) if number == 1 else None,
                place=(0, 4, 64, 48) if number == 2 else None,
                boxes=[(30.0, 50.0, 120.0, 90.0), (200.0, 20.0, 60.0, 60.0)],
                findings={"score-cam": [[("empty", "the map is empty")], []]}
                if number == 2
                else None,
                metrics={
                    method: {"energy": [0.3, 0.9, None, 0.5][number] if place == 0 else number / 4}
                    for place, method in enumerate(METHODS)
                },
            )
        )
    return shown


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def four(tmp_path_factory):
    """The report's file, and the photographs in it."""
    shown = photographs()
    values = np.array([0.3, 0.9, 0.5])
    columns = [
        tables.Column("energy", "energy ↑", dict.fromkeys(METHODS, tables.figure(values)), 2)
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    text = report(
        shown,
        columns=columns,
        left_out=[("torn.jpg", "cannot be read")],
        manifest={"model": "net"},
        command="scorecam report",
    )
    path.write_text(text, "utf-8")
    return path, shown


@pytest.fixture
def open_page(browser):
    """Open a file in a page; at the end, check that nothing was fetched and nothing failed."""
    contexts, troubles = [], []

    def open_file(path, *, width=1400, height=1000, scripts=True, colours="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            java_script_enabled=scripts,
            color_scheme=colours,
        )
        context.set_default_timeout(120_000)  # for busy machines
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("data:", "file:")) else troubles.append(request.url)
            ),
        )
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not troubles, json.dumps(troubles)
