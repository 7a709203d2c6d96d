"""Watching a training in a notebook: one picture that is replaced in place."""

import io
from pathlib import Path

import IPython.display as ipython
import pandas as pd
from PIL import Image, ImageOps

from colorlib.plots import plot_history
from colorlib.train import epoch_line


class TrainingView:
    """The loss curve and the newest sample picture of a run: ``fit(…, on_epoch=TrainingView(config.epochs))``.

    Make it where the picture shall appear. Each call replaces the picture, at the same size: nothing piles up or jumps.
    """

    def __init__(self, epochs: int):
        self.epochs = epochs
        self.handle = ipython.display(display_id=True)

    def __call__(self, history: pd.DataFrame, picture: Path) -> None:
        """Show a run after an epoch: the table of `fit`, and the path of the sample picture."""
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
        # with its size given, the page keeps its place while the next picture loads
        self.handle.update(ipython.Image(data=page._repr_png_(), format="png", width=page.width, height=page.height))
