"""What a reader meets, in Chromium, with mouse and keyboard: notebook 05 and a training in JupyterLab, the web page.

Skipped where Chromium is missing, unless COLORLIB_REQUIRE_BROWSER=1: then it fails. COLORLIB_DEMO_NOTEBOOK tries
another notebook, COLORLIB_SCREENSHOTS keeps the pictures in a folder.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from colorlib.colorize import Colorizer
from colorlib.config import TINY
from colorlib.data import sample_photos
from colorlib.train import fit

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = Path(os.environ.get("COLORLIB_DEMO_NOTEBOOK") or ROOT / "notebooks" / "05_demo.ipynb")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SECONDS = 60  # how long to wait for anything


@pytest.fixture
def chromium() -> str:
    if not Path(CHROMIUM).exists():
        why = "Chromium is not installed: `apt-get install chromium`"
        pytest.fail(why) if os.environ.get("COLORLIB_REQUIRE_BROWSER") == "1" else pytest.skip(why)
    return CHROMIUM


@pytest.fixture
def outputs(tmp_path) -> Path:
    """An outputs folder with a run, trained for one very short epoch."""
    config = TINY.replace(width=4, depth=4, image_size=32, photo_size=32, crops_per_photo=1, epochs=1)
    fit(config, sample_photos()[:4], tmp_path / "outputs" / "small", device="cpu")
    return tmp_path / "outputs"


@contextmanager
def serving(command: list[str], environment: dict[str, str], folder: Path, path: str = "") -> Iterator[str]:
    """Run a server that answers at `path` of the port that stands for PORT in its command; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *(part.replace("PORT", str(port)) for part in command)]
    environment = os.environ | environment
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    log = folder / "server.log"
    with open(log, "w") as file:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(address + path, server), f"see {log}")
        yield address
    finally:
        server.send_signal(signal.SIGTERM)  # JupyterLab ends its kernels, too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.fixture
def jupyterlab(tmp_path, outputs) -> Iterator[str]:
    """The address of a JupyterLab that serves a folder with the notebook in it."""
    folder, settings = tmp_path / "work", tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    folder.mkdir()
    shutil.copy(NOTEBOOK, folder / "05_demo.ipynb")
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    own = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    own |= {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    environment = {name: str(tmp_path / place) for name, place in own.items()}
    environment |= {"COLORLIB_OUTPUTS": str(outputs), "COLORLIB_RUN": "small"}
    command = ["-m", "jupyterlab", "--no-browser", "--allow-root", "--port=PORT"]
    command += ["--ip=127.0.0.1", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    command += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    command += ["--LabApp.extension_manager=readonly", "--LabApp.news_url=None"]
    with serving(command, environment, folder, "/api/status") as address:
        yield address


@pytest.fixture
def web_page(tmp_path, outputs) -> Iterator[str]:
    """The address of the web page, which takes files of one megabyte."""
    pytest.importorskip("gradio", reason="the extra app is not installed")
    environment = {"COLORLIB_OUTPUTS": str(outputs), "GRADIO_TEMP_DIR": str(tmp_path / "gradio")}
    command = ["-m", "colorlib.app", "--run=small", "--device=cpu", "--port=PORT", "--max-upload=1"]
    with serving(command, environment, tmp_path) as address:
        yield address


def answers(address: str, server: subprocess.Popen) -> bool:
    assert server.poll() is None, "the server did not start"
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str, pause: Callable[[], None] = lambda: time.sleep(0.1)) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited {SECONDS} s in vain: {what}"
        pause()


def test_the_demo_in_jupyterlab(chromium, jupyterlab, outputs, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SECONDS * 1000)
    shots = Path(os.environ.get("COLORLIB_SCREENSHOTS") or tmp_path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1400})
        page.set_default_timeout(SECONDS * 1000)
        page.goto(jupyterlab + "/doc/tree/05_demo.ipynb")
        page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel")
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")

        demo = page.locator(".jp-OutputArea-output > .widget-vbox")
        status = demo.locator("[role=status], [role=alert]")
        expect(status).to_contain_text("chelsea.png, 451×300 px, in colour")  # it starts with a sample
        images = demo.locator("img.widget-image")

        def picture(number: int = 0) -> bytes:
            script = "async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]"
            return bytes(images.nth(number).evaluate(script))

        def wait_for_another_picture(before: bytes, what: str) -> bytes:
            wait_until(lambda: picture() != before, what, lambda: page.wait_for_timeout(50))
            return picture()

        # a sample in colour
        first = picture()
        demo.get_by_role("button", name="coffee").click()
        expect(status).to_contain_text("coffee.png, 600×400 px, in colour")
        colored = wait_for_another_picture(first, "a click on a sample")
        expect(images.nth(1)).to_be_visible()  # the truth
        demo.scroll_into_view_if_needed()
        demo.screenshot(path=shots / "demo.png")

        # the sliders, by keyboard
        amount, saturation, left = (demo.get_by_role("slider").nth(number) for number in range(3))
        amount.press("Home")
        gray = wait_for_another_picture(colored, "the wipe slider")
        amount.press("End")
        assert wait_for_another_picture(gray, "the wipe slider, back") == colored
        saturation.press("ArrowRight")
        wait_for_another_picture(colored, "the saturation slider")
        saturation.press("ArrowLeft")
        wait_until(lambda: picture() == colored, "the saturation slider, back", lambda: page.wait_for_timeout(50))

        # a hint and a reference
        left.press("Home")
        aimed = wait_for_another_picture(colored, "a hint's place is drawn")
        demo.get_by_role("button", name="Add").click()
        expect(demo.get_by_text("0%, 50%")).to_be_visible()
        hinted = wait_for_another_picture(aimed, "a hint")
        demo.get_by_role("button", name="Clear").click()
        assert wait_for_another_picture(hinted, "no hint") == colored
        demo.get_by_label("take from").select_option("rocket.jpg")
        referred = wait_for_another_picture(colored, "a reference")
        demo.screenshot(path=shots / "reference.png")
        demo.get_by_label("take from").select_option("none")
        assert wait_for_another_picture(referred, "no reference") == colored

        # a sample without colours has no truth to show
        demo.get_by_role("button", name="camera").click()
        expect(status).to_contain_text("camera.png")
        expect(images.nth(1)).to_be_hidden()

        # an upload, a broken one, and the first once more
        photo, broken = tmp_path / "my photo.png", tmp_path / "broken.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(photo)
        broken.write_text("no photo")
        for file in (photo, broken, photo):
            with page.expect_file_chooser() as chooser:
                demo.get_by_role("button", name="Upload photos").click()
            chooser.value.set_files(file)
            if file == broken:
                expect(status).to_have_text("Error: broken.jpg: not an image file that can be read")
                demo.screenshot(path=shots / "error.png")
            else:
                expect(status).to_contain_text("my photo.png, 120×90 px")

        # a path, with Enter
        box = demo.get_by_placeholder("photo.jpg")
        box.fill("missing.jpg")
        box.press("Enter")
        expect(status).to_contain_text("Error: there is no photo 'missing.jpg': check the path")
        box.fill(str(photo))
        demo.get_by_role("button", name="Open").click()
        expect(status).to_contain_text("my photo.png, 120×90 px")

        # save, and take the file along
        demo.get_by_role("button", name="Save").first.click()
        expect(status).to_contain_text("Saved my photo-colorized.png")
        saved = outputs / "demo" / "my photo-colorized.png"
        expected = Colorizer.from_run(outputs / "small", device="cpu").colorize(photo)
        assert np.array_equal(np.asarray(Image.open(saved)), expected)
        with page.expect_download() as download:
            demo.get_by_role("link", name="Download it").click()
        assert download.value.suggested_filename == saved.name
        assert Path(download.value.path()).read_bytes() == saved.read_bytes()

        # on a narrow screen everything moves into one column; nothing sticks out
        demo.get_by_role("button", name="astronaut").click()
        expect(status).to_contain_text("astronaut.png, 512×512 px")
        page.set_viewport_size({"width": 520, "height": 2600})
        left, right = images.nth(0).bounding_box(), images.nth(1).bounding_box()
        assert right["y"] >= left["y"] + left["height"]
        assert demo.evaluate("box => box.scrollWidth <= box.clientWidth")
        demo.screenshot(path=shots / "narrow.png")
        browser.close()


WATCHED = """
from colorlib.config import TINY
from colorlib.data import sample_photos
from colorlib.monitor import TrainingView
from colorlib.train import fit

config = TINY.replace(width=4, depth=4, image_size=32, photo_size=32, crops_per_photo=8, epochs=12)
fit(config, sample_photos()[:4], "watched", on_epoch=TrainingView(config.epochs), device="cpu")
print("finished")
"""

# at every frame: how many outputs there are, how high they are together, and which picture is shown
OBSERVE = """() => {
    window.seen = [];
    const look = () => {
        const outputs = [...document.querySelectorAll(".jp-OutputArea-child")];
        const image = document.querySelector(".jp-OutputArea-child img");
        const height = outputs.reduce((sum, output) => sum + output.offsetHeight, 0);
        if (image) window.seen.push([outputs.length, height, image.src.length, image.height]);
        requestAnimationFrame(look);
    };
    look();
}"""


def test_a_training_in_jupyterlab_is_one_picture_that_changes_in_place(chromium, jupyterlab, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WATCHED.strip())])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "work" / "watch.ipynb")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(SECONDS * 1000)
        page.goto(jupyterlab + "/doc/tree/watch.ipynb")
        page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel")
        page.evaluate(OBSERVE)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        expect(page.locator(".jp-OutputArea-child").last).to_contain_text("finished", timeout=SECONDS * 1000)
        page.screenshot(path=Path(os.environ.get("COLORLIB_SCREENSHOTS") or tmp_path) / "training.png")
        counts, heights, pictures, image_heights = zip(*page.evaluate("window.seen"), strict=True)
        browser.close()
    assert len(set(pictures)) >= 6, "one epoch's picture follows the other's"
    assert len(set(image_heights)) == 1, "the picture keeps its place while the next one loads"
    assert max(counts) <= 3, "nothing piles up: the picture, and a line for the progress bar"
    assert max(heights) - min(heights) < 60, "what stands below jumps by no more than the bar's line"


def test_the_web_page(chromium, web_page, outputs, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SECONDS * 1000)
    shots = Path(os.environ.get("COLORLIB_SCREENSHOTS") or tmp_path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(SECONDS * 1000)
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url))
        page.goto(web_page)
        status = page.locator("#status")
        expect(status).to_contain_text("chelsea.png, 451×300 px, in colour")  # it starts with a sample

        def source(place: str) -> str:
            return page.locator(f"{place} img").last.get_attribute("src")

        def wait_for_another_picture(before: str, what: str, place: str = "#compared") -> str:
            wait_until(lambda: source(place) != before, what, lambda: page.wait_for_timeout(50))
            return source(place)

        # a sample, and the saturation by keyboard
        first = source("#compared")
        page.locator("#samples button", has_text="camera").click()
        expect(status).to_contain_text("camera.png, 512×512 px, black-and-white")
        colored = wait_for_another_picture(first, "a click on a sample")
        page.get_by_role("slider", name="Saturation").press("Home")
        wait_for_another_picture(colored, "the saturation slider")
        page.screenshot(path=shots / "page.png", full_page=True)

        # a hint, by a click on the picture
        page.get_by_role("tab", name="Hints").click()
        before = source("#board")
        page.locator("#board img").click(position={"x": 60, "y": 60})
        wait_for_another_picture(before, "a hint", "#board")
        page.screenshot(path=shots / "page-hints.png", full_page=True)

        # a reference, and none
        page.get_by_role("tab", name="Reference").click()
        page.get_by_role("slider", name="Saturation").press("End")
        before = source("#recolored")
        page.locator("#references button", has_text="rocket").click()
        wait_for_another_picture(before, "a reference", "#recolored")
        page.screenshot(path=shots / "page-reference.png", full_page=True)
        page.get_by_role("button", name="No reference").click()
        page.get_by_role("tab", name="Before and after").click()

        # an upload, a broken one, one that is too large
        photo, broken, large = tmp_path / "my photo.png", tmp_path / "broken.jpg", tmp_path / "large.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(photo)
        broken.write_text("no photo")
        large.write_bytes(bytes(2_000_000))
        choose = page.locator("input[type=file]").first
        choose.set_input_files(photo)
        expect(status).to_contain_text("my photo.png, 120×90 px")
        for file, words in ((broken, "broken.jpg: not an image file that can be read"), (large, "maximum")):
            page.get_by_role("button", name="Clear").first.click()
            choose.set_input_files(file)
            expect(page.get_by_text(words)).to_be_visible()
            page.screenshot(path=shots / f"page-{file.stem}.png")
        expect(status).to_contain_text("my photo.png")  # it stays
        expect(page.locator("#compared img").last).to_be_visible()
        expect(page.locator("#compared").get_by_text("Error")).to_be_hidden()

        # the file at full size
        page.get_by_role("button", name="Save at full size").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download my photo-colorized.png").click()
        assert download.value.suggested_filename == "my photo-colorized.png"
        expected = Colorizer.from_run(outputs / "small", device="cpu").colorize(photo, 2.0)
        assert np.array_equal(np.asarray(Image.open(download.value.path())), expected)

        # on a narrow screen nothing sticks out, and nothing at all came from elsewhere
        page.set_viewport_size({"width": 420, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=shots / "page-narrow.png", full_page=True)
        browser.close()
    assert [url for url in asked if not url.startswith((web_page, "data:", "blob:"))] == []
