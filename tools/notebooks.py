"""Care for the notebooks: run them, save them executed, export the report, keep badges and first cells alike.

python tools/notebooks.py run            execute copies of all into outputs/notebooks (what `make run` does)
python tools/notebooks.py save [NAME…]   execute in place, with clean outputs, for a commit
python tools/notebooks.py sync           write badges and first cells (after a change of `repository` in pyproject.toml)
python tools/notebooks.py export         report/report.ipynb → report/report.html and report/report.pdf
"""

import argparse
import base64
import io
import os
import re
import shutil
import sys
import time
import tomllib
from pathlib import Path

import latex2mathml.converter
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from PIL import Image
from pygments.formatters import HtmlFormatter

from colorlib.system import outputs_dir, replacing

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("0*.ipynb")), ROOT / "report" / "report.ipynb"]
IMAGES = ROOT / "notebooks" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDGET = "application/vnd.jupyter.widget-view+json"
BAR = re.compile(r"\d+%\|.*\|")  # of a tqdm bar

BOOTSTRAP = """\
# Find colorlib: installed, in this repository, attached as a Kaggle dataset, or cloned. Installs nothing.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY, BRANCH = "{repository}", "{branch}"
spec = importlib.util.find_spec("colorlib")
if spec is None or spec.origin is None:
    inputs = Path(os.environ.get("COLORLIB_KAGGLE_INPUT", "/kaggle/input"))
    attached = [path.parent.parent for n in range(5) for path in inputs.glob("*/" * n + "colorlib/config.py")]
    below = [path.parent.parent for path in sorted(Path.cwd().glob("*/colorlib/config.py"))]  # such as a clone
    places = [*attached, Path.cwd(), *below, *Path.cwd().parents, Path("colorlib-clone").resolve()]
    found = next((place for place in places if (place / "colorlib" / "config.py").is_file()), None)
    if found is None and REPOSITORY:
        command = ["git", "clone", "--quiet", "--depth=1", f"--branch={{BRANCH}}", REPOSITORY, "colorlib-clone"]
        subprocess.run(command, check=True)
        found = places[-1]
    if found is None:
        raise ModuleNotFoundError(
            "colorlib is not here. Kaggle: Add Input, choose the dataset that holds the folder colorlib. "
            "Colab: upload the repository (or !git clone it) next to this notebook. Then run this cell again."
        )
    sys.path.insert(0, str(found))
    sys.modules.pop("colorlib", None)  # Python takes any folder of this name for a package, until it knows better

from colorlib.system import print_environment

print_environment()"""


def sync(notebook: Path) -> None:
    """Write a notebook's badges (in place of the line that holds them), its first code cell and its attached pictures.

    Without a repository address in pyproject.toml there are no badges.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["colorlib"]
    badges = "<!-- badges -->"
    if repository := project["repository"].removesuffix("/").removesuffix(".git"):
        page = f"{repository}/blob/{project['branch']}/{notebook.relative_to(ROOT).as_posix()}"
        colab = page.replace("https://github.com/", "https://colab.research.google.com/github/")
        badges = (
            "[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]"
            f"(https://kaggle.com/kernels/welcome?src={page}) "
            f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
        )
    book = nbformat.read(notebook, as_version=4)
    title = book.cells[0]
    title.source = re.sub(r"^(<!-- badges -->|\[!\[Open in Kaggle\].*)$", badges, title.source, flags=re.M)
    for cell in book.cells:
        if "bootstrap" in cell.metadata.get("tags", []):
            cell.source = BOOTSTRAP.format(repository=project["repository"], branch=project["branch"])
        for name in re.findall(r"\(attachment:(\S+\.png)\)", cell.source):  # screenshots travel with the notebook
            picture = base64.b64encode((IMAGES / name).read_bytes()).decode()
            cell.attachments = {name: {"image/png": picture}}
    nbformat.write(book, notebook)


def execute(notebook: Path, out: Path) -> float:
    """Run a notebook from a fresh kernel, in its own folder; write it to `out`, cleaned. Returns seconds."""
    book = nbformat.read(notebook, as_version=4)
    start = time.perf_counter()
    client = NotebookClient(
        book, timeout=None, kernel_name="python3", record_timing=False, store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],  # no warning that the kernel listens on this machine
        resources={"metadata": {"path": str(notebook.parent)}},
    )  # fmt: skip
    try:
        client.execute()
    finally:  # a notebook that failed is kept, too: its last cell says why
        out.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(clean(book), out)
    return time.perf_counter() - start


def clean(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take away what a saved notebook cannot show: dead widgets, overwritten progress bars, versions of the kernel."""
    book.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in book.cells:
        if cell.cell_type != "code":
            continue
        outputs = []
        for output in cell.outputs:
            if WIDGET in output.get("data", {}):
                continue
            if "image/png" in output.get("data", {}):
                _make_slim(output)
            if output.output_type == "stream":
                output.text = _as_in_a_terminal(output.text)
                if outputs and outputs[-1].output_type == "stream" and outputs[-1].name == output.name:
                    outputs[-1].text += output.text
                    continue
                output.text = output.text.lstrip("\n")
                if not output.text.strip():
                    continue
            outputs.append(output)
        cell.outputs = outputs
    return book


def _as_in_a_terminal(text: str) -> str:
    """Text without its progress bars: of what lies between carriage returns, the last that is not blank is seen."""
    lines = []
    for line in text.split("\n"):
        lines.append(next((piece for piece in reversed(line.split("\r")) if piece.strip()), ""))
    if BAR.search(lines[-1]):  # no line end came after it
        lines[-1] = ""
    return "\n".join(line for line in lines if not BAR.search(line))


def _make_slim(output: nbformat.NotebookNode) -> None:
    """Turn a figure full of photos into a JPEG, which takes a fourth of the room; one of lines stays as it is."""
    png, file = output.data["image/png"], io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").save(file, "JPEG", quality=88, subsampling=0)
    jpeg = base64.b64encode(file.getvalue()).decode()
    if len(jpeg) < len(png) / 2:
        del output.data["image/png"]
        output.data["image/jpeg"] = jpeg
        output.metadata = {"image/jpeg": output.metadata.get("image/png", {})}


TEMPLATE = """\
{%- extends 'basic/index.html.j2' -%}
{% block input_group %}<details class="code"><summary>code</summary>{{ super() }}</details>{% endblock %}
{% block in_prompt %}{% endblock %}{% block output_area_prompt %}{% endblock %}"""


def export(notebook: Path, out: Path) -> None:
    """Write a notebook as one HTML file that needs no network: formulas as MathML, figures inside, code folded."""
    book = nbformat.read(notebook, as_version=4)
    title = re.search(r"^# (.+)$", book.cells[0].source, flags=re.M).group(1)
    book.cells = [cell for cell in book.cells if "bootstrap" not in cell.metadata.get("tags", [])]
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"^\[!\[Open in Kaggle\].*$", "", cell.source, flags=re.M)
            cell.source = re.sub(r"\$\$(.+?)\$\$", lambda m: _mathml(m[1], "block"), cell.source, flags=re.S)
            cell.source = re.sub(r"(?<![\\$])\$([^$\n]+)\$", lambda m: _mathml(m[1], "inline"), cell.source)
    exporter = HTMLExporter(template_name="basic", raw_template=TEMPLATE)
    body, _ = exporter.from_notebook_node(book)
    style = (ROOT / "tools" / "report.css").read_text(encoding="utf-8") + HtmlFormatter().get_style_defs(".highlight")
    out.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{style}</style></head>\n'
        f"<body><main>{body}</main></body></html>\n",
        encoding="utf-8",
    )


FOOTER = """\
<div style="width: 100%; text-align: center; font: 8pt 'Liberation Sans', Arial, sans-serif; color: #5c5c57">
<span class="pageNumber"></span></div>"""


def print_pdf(page: Path, out: Path) -> bool:
    """Print an HTML file to PDF, A4, with page numbers, by a Chromium that is found here.

    Returns whether there was one: without, or without playwright, nothing is written, and a line says so.
    """
    browser = os.environ.get("COLORLIB_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    if browser is None:
        print(
            f"no {out.name}: printing needs playwright (pip install '.[test]') and a Chromium ({', '.join(BROWSERS)})"
        )
        return False
    margin = {"top": "19mm", "bottom": "20mm", "left": "21mm", "right": "21mm"}
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page()
        tab.goto(page.resolve().as_uri())
        with replacing(out) as temporary:
            tab.pdf(
                path=temporary, format="A4", margin=margin, print_background=True, display_header_footer=True,
                header_template="<span></span>", footer_template=FOOTER, tagged=True, outline=True,
            )  # fmt: skip
        chromium.close()
    return True


def _mathml(formula: str, display: str) -> str:
    """A formula in LaTeX as MathML; display: "block" or "inline"."""
    return latex2mathml.converter.convert(" ".join(formula.split()), display=display)


def run() -> int:
    """Execute copies of all notebooks in order, with the tiny preset unless the environment says otherwise."""
    preset = os.environ.setdefault("COLORLIB_PRESET", "tiny")
    out, total = outputs_dir() / "notebooks", 0.0
    for number, notebook in enumerate(NOTEBOOKS, 1):
        print(f"[{number}/{len(NOTEBOOKS)}] {notebook.stem} … ", end="", flush=True)
        try:
            seconds = execute(notebook, out / notebook.name)
        except CellExecutionError as error:
            print(f"failed\n\n{error.ename}: {error.evalue}\n")
            print(f"The cell is in outputs/notebooks/{notebook.name}. Another run: COLORLIB_RUN=name make run")
            return 1
        total += seconds
        print(f"{seconds:.0f} s")
    export(out / "report.ipynb", out / "report.html")
    print(
        f"\nAll {len(NOTEBOOKS)} ran in {total / 60:.1f} minutes. Now look at\n"
        f"  outputs/notebooks/    the executed notebooks (`make lab` opens JupyterLab to step through your own)\n"
        f"  outputs/notebooks/report.html    the report, for a browser\n"
        f"  outputs/{os.environ.get('COLORLIB_RUN') or preset}/    the run of notebook 3: history, samples, weights"
    )
    return 0


def main() -> int:
    """Read the command line and do what it says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "save", "sync", "export"])
    parser.add_argument("names", nargs="*", help="for save: names of notebooks, such as 03_training; none: all")
    options = parser.parse_args()
    if unknown := set(options.names) - {notebook.stem for notebook in NOTEBOOKS}:
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(n.stem for n in NOTEBOOKS)}")
    if options.action == "run":
        return run()
    if options.action == "export":
        export(ROOT / "report" / "report.ipynb", ROOT / "report" / "report.html")
        print_pdf(ROOT / "report" / "report.html", ROOT / "report" / "report.pdf")
        return 0
    for notebook in NOTEBOOKS:
        if not options.names or notebook.stem in options.names:
            sync(notebook)
            if options.action == "save":
                print(f"{notebook.stem} … {execute(notebook, notebook):.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
