"""Watching a training run: sample pictures, a line an epoch; in a notebook, one picture that is replaced in place."""

import io
import os
from pathlib import Path

import IPython.display as ipython
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from colorlib.color import lab_to_rgb_image
from colorlib.files import replacing
from colorlib.plots import plot_history, sample_grid


def epoch_line(history: pd.DataFrame, epochs: int) -> str:
    """Put the newest epoch of a run into a line: its losses, the speed, the time left and the memory in use.

    history: the table of `train.fit`. epochs: of the whole run. Checked by tests/test_monitor.py.
    """
    row = history.iloc[-1]
    seconds = int(history["seconds"].mean() * (epochs - len(history)))
    best = "  best" if row["val_loss"] == history["val_loss"].min() else ""
    return (
        f"epoch {len(history):3d}/{epochs}  train {row['train_loss']:.4f}  val {row['val_loss']:.4f}  "
        f"(gray {row['gray_loss']:.4f})  {row['images_per_second']:.0f} img/s  {row['memory_gb']:.1f} GB  "
        f"{seconds // 60}:{seconds % 60:02d} min left{best}"
    )


@torch.no_grad()
def save_some_examples(model: nn.Module, L: Tensor, ab: Tensor, path: str | os.PathLike) -> None:
    """Save a picture of three rows: the photos in gray, as the network colours them, and as they are.

    L: (B, 1, S, S), ab: (B, 2, S, S), scaled. path: of a PNG file.
    """
    device = next(model.parameters()).device
    model.eval()
    predicted = model(L.to(device)).float().cpu()
    L, ab = L.cpu(), ab.cpu()
    rows = [
        [lab_to_rgb_image(*pair) for pair in zip(L, colors, strict=True)]
        for colors in (torch.zeros_like(ab), predicted, ab)
    ]
    with replacing(path) as temporary:
        Image.fromarray(sample_grid(rows)).save(temporary)


class TrainingView:
    """The loss curve and the newest sample picture of a run, in a notebook: `fit(…, on_epoch=TrainingView(epochs))`.

    epochs: of the whole run. Made where the picture shall appear; each call replaces it, at the same size, so that
    nothing piles up and nothing jumps. Checked by tests/test_monitor.py and, in a browser, tests/test_browser.py.
    """

    def __init__(self, epochs: int):
        self.epochs = epochs
        self.handle = ipython.display(display_id=True)

    def __call__(self, history: pd.DataFrame, picture: Path) -> None:
        """Show a run after an epoch. history: the table of `train.fit`. picture: path of the sample picture."""
        if self.handle is None:  # not in a notebook: there is no picture to replace
            return print(epoch_line(history, self.epochs))
        figure = plot_history(history)
        figure.axes[0].set_title(epoch_line(history, self.epochs), size=8)
        canvas = io.BytesIO()
        figure.savefig(canvas, format="png")
        curve, examples = Image.open(canvas).convert("RGB"), Image.open(picture).convert("RGB")
        examples = ImageOps.contain(examples, (3 * curve.width // 4, 2 * curve.width))
        page = Image.new("RGB", (curve.width, curve.height + examples.height), "white")
        page.paste(curve, (0, 0))
        page.paste(examples, ((curve.width - examples.width) // 2, curve.height))
        canvas = io.BytesIO()
        page.save(canvas, "PNG")
        # with its size given, the page keeps its place while the next picture loads
        image = ipython.Image(data=canvas.getvalue(), format="png", width=page.width, height=page.height)
        self.handle.update(image)
