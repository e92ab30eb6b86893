"""What is seen in the app, with the network that comes with the package."""

import base64
import os
import re
import socket
import subprocess
import sys
import time

import pytest
from PIL import Image

from scorecam_jax import samples

pytestmark = pytest.mark.browser

LINE = re.compile(r"^open (http://127\.0\.0\.1:\S+) in", re.M)
EXACT = re.compile("the exact map, of all [0-9]+ masks")


@pytest.fixture(scope="module")
def address(request, tmp_path_factory):
    """Of `scorecam app`, which runs in a process of its own."""
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = tmp_path_factory.mktemp("app") / "told"
    environment = {
        # Without the flags of other tests, which compile quickly and compute slowly.
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        "JAX_COMPILATION_CACHE_DIR": str(request.config.cache.mkdir("app")),
        "GRADIO_TEMP_DIR": str(told.parent / "uploads"),
    }
    command = [sys.executable, "-m", "scorecam_jax", "app", "--port", str(port)]
    with told.open("w") as file:
        began = time.monotonic()
        running = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        while not (
            found := re.search(r"^open (http://127\.0\.0\.1:\S+) in", told.read_text(), re.M)
        ):
            assert running.poll() is None, told.read_text()
            time.sleep(0.1)
        print(f"\nthe page is there after {time.monotonic() - began:.1f} s")
        yield found[1]
        assert "Traceback" not in told.read_text()
    finally:
        running.terminate()
        assert running.wait(30) == 128 + 15


@pytest.fixture
def open_app(browser, address):
    """Opens the page; at the end, that nothing came from elsewhere and nothing went wrong."""
    contexts, troubles = [], []
    own = (address, "data:", "blob:")

    def open_page():
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        context.set_default_timeout(240_000)  # for machines that do much else
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(own) else troubles.append(request.url),
        )
        page.goto(address)
        page.locator("#photo input[type=file]").wait_for(state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


def drop(page, path, place="#photo"):
    """Drop a file on the page as a person would."""
    content = base64.b64encode(path.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """([name, content]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
            return transfer;
        }""",
        [path.name, content],
    )
    page.locator(f"{place} input[type=file]").locator("..").dispatch_event(
        "drop", {"dataTransfer": transfer}
    )


def told(page):
    return page.locator("#says")


def picture(page):
    return page.locator("#result img").get_attribute("src")


def test_a_dropped_photograph_is_explained_and_refined(open_app):
    page = open_app()
    began = time.monotonic()
    drop(page, samples.path("owl"))
    page.locator("#result img").wait_for()
    print(f"\nthe first map is there after {time.monotonic() - began:.1f} s", end="")
    assert "great grey owl" in told(page).inner_text()
    assert "great grey owl" in page.locator("#top").inner_text()
    first = picture(page)
    told(page).get_by_text(EXACT).wait_for()
    print(f", the exact one after {time.monotonic() - began:.1f} s")
    assert picture(page) != first
    assert not page.get_by_role("button", name="Cancel").is_visible()

    page.get_by_text("Save", exact=True).click()
    page.get_by_role("button", name="Make picture").click()
    with page.expect_download() as download:
        page.locator("a[download]", has_text=re.compile("[0-9]")).first.click()
    with Image.open(download.value.path()) as kept:
        assert kept.text["Method"] == "score-cam"
    assert page.locator("a[download]").count() >= 4


def test_a_question_can_be_cancelled_and_another_asked(open_app):
    page = open_app()
    drop(page, samples.path("dog"))
    page.locator("#result img").wait_for()
    page.get_by_role("button", name="Cancel").click()
    told(page).get_by_text("Stopped. German shepherd").wait_for()
    kept = told(page).inner_text()
    page.wait_for_timeout(1500)
    assert told(page).inner_text() == kept
    assert not EXACT.search(kept)

    wanted = page.locator("#class input")
    wanted.fill("koal bear")
    wanted.press("Enter")
    page.locator("#maybe").get_by_text("koala").click()
    told(page).get_by_text("koala, <0.1%").wait_for()
    page.get_by_role("button", name="Cancel").click()
    told(page).get_by_text("Stopped. koala").wait_for()

    shown = page.locator("#result img")
    box = shown.bounding_box()
    for share in (0.3, 0.7):
        shown.click(position={"x": share * box["width"], "y": share * box["height"]})
        told(page).get_by_text(re.compile("One corner|The box holds")).wait_for()
    told(page).get_by_text("The box holds").wait_for()


def test_what_is_no_photograph_or_too_large_is_refused(open_app, tmp_path):
    bomb, text = tmp_path / "bomb.png", tmp_path / "text.jpg"
    Image.new("1", (30_000, 30_000)).save(bomb)
    text.write_text("no picture")
    page = open_app()
    drop(page, bomb)
    told(page).get_by_text("bomb.png: larger than 50 megapixels").wait_for()
    page.locator(
        "#photo button[aria-label='Remove Image'], #photo button[aria-label='Clear']"
    ).click()
    drop(page, text)
    told(page).get_by_text("text.jpg: cannot be read: not an image").wait_for()
    page.locator("#samples button").first.click()  # it still answers
    told(page).get_by_text("bison").wait_for()


def test_three_browsers_are_answered_at_once(open_app):
    asked = {"owl": "great grey owl", "dog": "German shepherd", "koala": "koala"}
    pages = {name: open_app() for name in asked}
    began = time.monotonic()
    for name, page in pages.items():
        drop(page, samples.path(name))
    for name, page in pages.items():
        page.locator("#result img").wait_for()
        assert asked[name] in told(page).inner_text()
    print(f"\nthree first maps are there after {time.monotonic() - began:.1f} s", end="")
    # None waited until another was done.
    assert sum(bool(EXACT.search(told(page).inner_text())) for page in pages.values()) < 3
    for name, page in pages.items():
        told(page).get_by_text(EXACT).wait_for()
        assert asked[name] in told(page).inner_text()
    print(f", the exact ones after {time.monotonic() - began:.1f} s")
