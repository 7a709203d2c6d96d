"""Where a colorizer fails: errors by chroma, hue, lightness and texture."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from colorlib.color import rgb_to_lab
from colorlib.photo import to_tensor

EDGES = {  # of the bins of pixels; CIE units, hue in degrees
    "chroma": (0, 5, 10, 15, 20, 30, 40, 60, 150),
    "hue": tuple(range(0, 361, 30)),
    "lightness": tuple(range(0, 101, 10)),
    "texture": (0, 0.5, 1, 2, 4, 8, 16, 50),  # standard deviation of L* in a window of 7×7 px
}
COLORED = 10  # chroma from which on a pixel has a hue


class Failures:
    """Collects the errors of predictions, pixel by pixel, in bins: `evaluate_model(…, on_photo=failures.add)`."""

    def __init__(self) -> None:
        self.sums = {by: torch.zeros(5, len(edges) - 1, dtype=torch.float64) for by, edges in EDGES.items()}

    def add(self, name: str, pictures: Mapping[str, np.ndarray], scores: Mapping | None = None) -> None:
        """Count in a photo's pictures "true" and "predicted", uint8 (H, W, 3); name and scores are not used."""
        true, predicted = (rgb_to_lab(to_tensor(pictures[key])).double() for key in ("true", "predicted"))
        here, there = _properties(true), _properties(predicted)
        error = torch.hypot(*(true - predicted)[1:])
        one = torch.ones_like(error)
        counted = (here, one), (here, error), (here, here["chroma"]), (here, there["chroma"]), (there, one)
        for by, sums in self.sums.items():  # the outer bins are open; NaN counts in none
            edges = torch.tensor([-torch.inf, *EDGES[by][1:-1], torch.inf], dtype=torch.float64)
            sums += torch.stack([torch.histogram(pixels[by], edges, weight=weight).hist for pixels, weight in counted])

    def table(self) -> pd.DataFrame:
        """Average the errors in each bin; pixels with a chroma below 10 have no hue.

        Returns:
            by (chroma, hue, lightness or texture of the true photo), low and high (edges), share (of all pixels), error
            (mean distance in the (a*, b*) plane), gray_error (that of gray), chroma (mean, of the prediction),
            predicted_share (of all pixels, those whose prediction lies in the bin).
        """
        tables, pixels = [], self.sums["lightness"][0].sum()  # each pixel has a lightness
        for by, edges in EDGES.items():
            shares, means = self.sums[by] / pixels, self.sums[by] / self.sums[by][0]
            columns = {"by": by, "low": edges[:-1], "high": edges[1:], "share": shares[0], "error": means[1]}
            columns |= {"gray_error": means[2], "chroma": means[3], "predicted_share": shares[4]}
            tables.append(pd.DataFrame(columns))
        return pd.concat(tables, ignore_index=True)


def _properties(lab: Tensor) -> dict[str, Tensor]:
    """What EDGES sorts the pixels of L*a*b* (3, H, W) by, (H, W) each; the hue of a gray pixel is NaN."""
    L, a, b = lab
    chroma, hue = torch.hypot(a, b), torch.rad2deg(torch.atan2(b, a)) % 360
    padded = F.pad(L[None, None], (3, 3, 3, 3), mode="reflect")
    mean, square = (F.avg_pool2d(plane, 7, stride=1)[0, 0] for plane in (padded, padded**2))
    texture = (square - mean**2).clamp(min=0).sqrt()
    return {"chroma": chroma, "hue": hue.where(chroma >= COLORED, torch.nan), "lightness": L, "texture": texture}
