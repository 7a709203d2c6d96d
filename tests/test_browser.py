"""What a reader meets, in Chromium, with mouse and keyboard: notebook 05 in JupyterLab, and the web page.

Skipped where Chromium is missing, unless COLORLIB_REQUIRE_BROWSER=1: then it fails. The last page of each test, also
of one that failed, goes as a picture into the folder that COLORLIB_SCREENSHOTS names.
"""

import os
import re
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
from playwright.sync_api import Locator, expect, sync_playwright

from colorlib.colorize import Colorizer
from colorlib.config import TINY
from colorlib.data import sample_photos
from colorlib.train import fit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SECONDS = 60  # how long to wait for anything


@pytest.fixture
def page(request):
    """An empty page in Chromium."""
    if not Path(CHROMIUM).exists():
        why = "Chromium is not installed: `apt-get install chromium`"
        pytest.fail(why) if os.environ.get("COLORLIB_REQUIRE_BROWSER") == "1" else pytest.skip(why)
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1400})
        page.set_default_timeout(SECONDS * 1000)
        yield page
        if folder := os.environ.get("COLORLIB_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{request.node.name}.png", full_page=True)
        browser.close()


@pytest.fixture
def outputs(tmp_path) -> Path:
    """An outputs folder with a run, trained for one very short epoch."""
    config = TINY.replace(width=4, depth=4, image_size=32, photo_size=32, crops_per_photo=1, epochs=1)
    fit(config, sample_photos()[:4], tmp_path / "outputs" / "small", device="cpu")
    return tmp_path / "outputs"


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Files to upload: a photo, a broken one, a large one."""
    photo, broken, large = tmp_path / "my photo.png", tmp_path / "broken.jpg", tmp_path / "large.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(photo)
    broken.write_text("no photo")
    large.write_bytes(bytes(11_000_000))  # more than Jupyter's server lets through at once
    return {"photo": photo, "broken": broken, "large": large}


@contextmanager
def serving(command: list[str], environment: dict[str, str], folder: Path, path: str = "") -> Iterator[str]:
    """Run a server that answers at `path` of the port that stands for PORT in its command; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *(part.replace("PORT", str(port)) for part in command)]
    environment = os.environ | environment
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    log, address = folder / "server.log", f"http://127.0.0.1:{port}"
    with open(log, "w") as file:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until(lambda: answers(address + path, server), f"see {log}")
        yield address
    finally:
        server.send_signal(signal.SIGTERM)  # JupyterLab ends its kernels, too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(address: str, server: subprocess.Popen) -> bool:
    assert server.poll() is None, "the server did not start"
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited {SECONDS} s in vain: {what}"
        time.sleep(0.1)


@pytest.fixture
def jupyterlab(tmp_path, outputs) -> Iterator[str]:
    """The address of a JupyterLab that serves the folder "work"."""
    folder, settings = tmp_path / "work", tmp_path / "JUPYTERLAB_SETTINGS" / "@jupyterlab" / "apputils-extension"
    folder.mkdir()
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    own = ("JUPYTERLAB_SETTINGS", "JUPYTERLAB_WORKSPACES", "JUPYTER_CONFIG", "JUPYTER_RUNTIME")
    environment = {f"{name}_DIR": str(tmp_path / name) for name in own} | {"IPYTHONDIR": str(tmp_path / "ipython")}
    environment |= {"COLORLIB_OUTPUTS": str(outputs), "COLORLIB_RUN": "small", "COLORLIB_EPOCHS": "1"}
    command = ["-m", "jupyterlab", "--no-browser", "--allow-root", "--port=PORT", "--ip=127.0.0.1"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token="]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly", "--LabApp.news_url=None"]
    with serving(command, environment, folder, "/api/status") as address:
        yield address


def run_all_cells(page, address: str, folder: Path, name: str, last: str) -> Locator:
    """Open a notebook, run it up to the cell that holds `last`, and give the widget there, when the kernel is idle."""
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    book.cells = book.cells[: 1 + next(n for n, cell in enumerate(book.cells) if last in cell.source)]
    nbformat.write(book, folder / f"{name}.ipynb")
    page.goto(f"{address}/doc/tree/{name}.ipynb")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    widget = page.locator(".jp-OutputArea-output > .widget-vbox")
    expect(widget.locator("[role=status]").first).to_be_visible()
    page.wait_for_function("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == 'idle'")
    cells = page.evaluate("window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    return widget


def test_training_by_pressing_in_jupyterlab(page, jupyterlab, tmp_path):
    """The kernel hears every press, also while it trains."""
    stepper = run_all_cells(page, jupyterlab, tmp_path / "work", "03_training", "TrainingStepper(")
    status = stepper.locator("[role=status]")

    def press(name: str) -> None:
        stepper.get_by_role("button", name=name).click()

    def step() -> int:
        return int(re.search(r"Step (\d+)", status.inner_text())[1])

    expect(status).to_contain_text("Step 10.")
    press("One step")
    expect(status).to_contain_text("Step 11.")
    press("Ten steps")
    expect(status).to_contain_text("Step 21.")
    for least in (22, 30):  # run, pause, go on, pause
        press("Run")
        wait_until(lambda least=least: step() > least, "steps")
        press("Pause")
        page.wait_for_timeout(3000)  # until the last step is drawn, also on a busy machine
        paused = step()
        page.wait_for_timeout(500)
        assert step() == paused
    press("Start anew")
    expect(status).to_contain_text("Step 0.")


def test_the_demo_in_jupyterlab(page, jupyterlab, outputs, files, tmp_path):
    demo = run_all_cells(page, jupyterlab, tmp_path / "work", "05_demo", "ColorizeDemo(")
    status, images = demo.locator("[role=status], [role=alert]"), demo.locator("img.widget-image")
    expect(status).to_contain_text("chelsea.png, 451×300 px, in color")  # it starts with a sample

    def picture() -> bytes:
        script = "async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]"
        return bytes(images.nth(0).evaluate(script))

    def button(name: str):
        return demo.get_by_role("button", name=name).first

    def other(before: bytes) -> bytes:
        wait_until(lambda: picture() != before, "another picture")
        return picture()

    # a sample in color, beside the truth
    first = picture()
    button("coffee").click()
    expect(status).to_contain_text("coffee.png, 600×400 px, in color")
    colored = other(first)
    expect(images.nth(1)).to_be_visible()

    # the sliders, by keyboard
    amount, left = (demo.get_by_role("slider").nth(number) for number in (0, 1))
    amount.press("Home")
    gray = other(colored)
    amount.press("End")
    assert other(gray) == colored

    # a hint
    left.press("Home")
    aimed = other(colored)
    button("Add").click()
    hinted = other(aimed)
    button("0%, 50%").click()  # which takes it back
    assert other(hinted) == colored
    words = demo.get_by_role("textbox", name="color", exact=True)
    words.fill("reddd")
    words.press("Enter")
    expect(demo.get_by_text("got 'reddd'")).to_be_visible()
    words.fill("navy")
    words.press("Enter")
    expect(demo.get_by_text("got 'reddd'")).to_be_hidden()
    assert page.locator("[title=null]:visible").count() == 0

    # an upload that the server drops, which one is told before: the next photo brings another button
    expect(demo.get_by_text("Nothing happens after an upload?")).to_be_visible()
    with page.expect_file_chooser() as chooser:
        button("Upload photos").click()
    chooser.value.set_files(files["large"])
    page.wait_for_timeout(5000)  # until JupyterLab has connected to the kernel again
    button("chelsea").click()
    expect(status).to_contain_text("chelsea.png, 451×300 px")

    # an upload, a broken one, and the first once more
    for name in ("photo", "broken", "photo"):
        with page.expect_file_chooser() as chooser:
            button("Upload photos").click()
        chooser.value.set_files(files[name])
        if name == "broken":
            expect(status).to_have_text("Error: broken.jpg: not an image file that can be read")
        else:
            expect(status).to_contain_text("my photo.png, 120×90 px")

    demo.get_by_title("Remove my photo.png").click()
    expect(demo.get_by_title("Remove my photo.png")).to_have_count(0)

    # a path, with Enter
    box = demo.get_by_placeholder("photo.jpg")
    box.fill(str(sample_photos("gray")[0]))
    box.press("Enter")
    expect(status).to_contain_text("black-and-white")
    expect(images.nth(1)).to_be_hidden()  # there is no truth to show
    box.fill(str(files["photo"]))
    button("Open").click()
    expect(status).to_contain_text("my photo.png, 120×90 px")

    # save, and take the file along
    button("Save").click()
    expect(status).to_contain_text("Saved my photo-colorized.png")
    saved = outputs / "demo" / "my photo-colorized.png"
    expected = Colorizer.from_run(outputs / "small", device="cpu").colorize(files["photo"])
    assert np.array_equal(np.asarray(Image.open(saved)), expected)
    with page.expect_download() as download:
        demo.get_by_role("link", name="Download it").click()
    assert download.value.suggested_filename == saved.name
    assert Path(download.value.path()).read_bytes() == saved.read_bytes()

    # on a narrow screen everything moves into one column; nothing sticks out
    button("astronaut").click()
    expect(status).to_contain_text("astronaut.png, 512×512 px")
    page.set_viewport_size({"width": 520, "height": 2600})
    above, below = images.nth(0).bounding_box(), images.nth(1).bounding_box()
    assert below["y"] >= above["y"] + above["height"]
    assert demo.evaluate("box => box.scrollWidth <= box.clientWidth")


def test_the_web_page(page, outputs, files, tmp_path):
    pytest.importorskip("gradio", reason="the extra app is not installed")
    environment = {"COLORLIB_OUTPUTS": str(outputs), "GRADIO_TEMP_DIR": str(tmp_path / "gradio")}
    nowhere = "127.0.0.1:9"  # proxies that do not answer, of which this machine needs none
    environment |= {"http_proxy": f"http://{nowhere}", "ALL_PROXY": f"socks5://{nowhere}"}
    command = ["-m", "colorlib.ui.app", "--run=small", "--device=cpu", "--port=PORT", "--max-upload=1"]
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))
    picture = page.locator("#picture img").last
    with serving(command, environment, tmp_path) as address:
        page.goto(address)
        status = page.locator("#status")
        expect(status).to_contain_text("chelsea.png, 451×300 px, in color")  # it starts with a sample

        def other(before: str) -> str:
            expect(picture).not_to_have_attribute("src", before)
            return picture.get_attribute("src")

        # a sample, and the sliders by keyboard
        page.locator("#photos button", has_text="camera").click()
        expect(status).to_contain_text("camera.png, 512×512 px, black-and-white")
        expect(picture).to_have_attribute("alt", "camera.png, colored by the network")
        colored = picture.get_attribute("src")
        page.get_by_role("slider", name="Gray to color").press("Home")
        gray = other(colored)
        page.get_by_role("slider", name="Gray to color").press("End")
        before = other(gray)

        # hints, by a click on the picture and by keyboard; one is removed, then all are
        hints = page.locator("#hints button")
        picture.click(position={"x": 60, "y": 60})
        expect(hints).to_have_count(1)
        before = other(before)
        page.get_by_text("Hints without a mouse").click()
        page.get_by_role("slider", name="From left").press("Home")
        before = other(before)  # a cross
        page.get_by_role("button", name="Add", exact=True).click()
        expect(hints).to_have_count(2)
        hints.first.click()
        expect(hints).to_have_count(1)
        expect(hints).to_contain_text("0, 0.5")
        page.get_by_role("button", name="Clear", exact=True).last.click()
        expect(hints).to_have_count(0)

        # uploads of which one is broken, and one that is too large
        page.get_by_role("slider", name="Saturation").press("End")
        choose = page.locator("input[type=file]").first
        choose.set_input_files([files["broken"], files["photo"]])
        expect(status).to_contain_text("my photo.png, 120×90 px")
        expect(page.get_by_text("broken.jpg: not an image file that can be read")).to_be_visible()
        expect(page.locator("#photos button.selected")).to_contain_text("my photo")
        choose.set_input_files(files["large"])
        expect(page.get_by_text("maximum")).to_be_visible()
        expect(status).to_contain_text("my photo.png")  # it stays

        # the file at full size
        page.get_by_role("button", name="Save at full size").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download my photo-colorized.png").click()
        assert download.value.suggested_filename == "my photo-colorized.png"
        expected = Colorizer.from_run(outputs / "small", device="cpu").colorize(files["photo"], 2.0)
        assert np.array_equal(np.asarray(Image.open(download.value.path())), expected)

        # on a narrow screen nothing sticks out, and nothing at all came from elsewhere
        page.set_viewport_size({"width": 390, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
