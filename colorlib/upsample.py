"""Small colours enlarged to a photo's size, a few rows at a time, so that they end where its lightness does.

Where L and ab change together in the small picture, a line through each 3×3 tells how much colour goes with a step of
L: the linear model of the guided filter (He, Sun and Tang 2010, doi 10.1007/978-3-642-15549-9_1; its fast form, He and
Sun 2015, arXiv 1505.00996). The enlarged ab is the bilinear one, plus that slope times the detail of L that the small
picture lacks. So nothing is smoothed away, and where L has no detail, the result is the bilinear one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

STEADY = 0.1  # added to the variance of L, scaled: the least mean error on validation photos, see `Enlarger`


class Enlarger:
    """Small colours that give their part of the full size strip by strip, each the same as within the whole.

    L, ab: scaled, of the small picture, (1, 1, h, w) and (1, 2, h, w). height, width: the full size, px, h × w or more.
    Against bilinear, the mean error of the true ab of validation photos of about 384×256 px, made small to 16, 32 and
    64 px, falls by 5, 4 and 0.3 %. Checked by tests/test_upsample.py.
    """

    def __init__(self, L: Tensor, ab: Tensor, height: int, width: int):
        self.height, self.width = height, width
        self.small = torch.cat([ab, _mean(_slope(L, ab)), L], dim=1)  # (1, 5, h, w)

    def strip(self, L: Tensor, top: int) -> Tensor:
        """The scaled ab (2, n, width) of n rows from `top` on, whose full L is (1, n, width)."""
        rows = bilinear_rows(self.small, self.height, self.width, top, L.shape[1])[0]
        return (rows[:2] + rows[2:4] * (L - rows[4:])).clamp(-1, 1)


def bilinear_rows(x: Tensor, height: int, width: int, top: int, count: int) -> Tensor:
    """Rows top … top + count − 1 of x (B, C, h, w) enlarged bilinearly to height × width: (B, C, count, width)."""
    where = ((torch.arange(top, top + count, dtype=torch.float64) + 0.5) * x.shape[2] / height - 0.5).clamp(min=0)
    above = where.long().clamp(max=x.shape[2] - 1)
    below = (above + 1).clamp(max=x.shape[2] - 1)
    share = (where - above).to(x).view(-1, 1)
    rows = x[:, :, above.to(x.device)].lerp(x[:, :, below.to(x.device)], share)
    return F.interpolate(rows, (count, width), mode="bilinear")


def _slope(L: Tensor, ab: Tensor) -> Tensor:
    """How ab changes with L around each pixel: their covariance over the variance of L, pulled towards 0."""
    mean_L, mean_ab = _mean(L), _mean(ab)
    variance = (_mean(L * L) - mean_L * mean_L).clamp(min=0)
    return (_mean(L * ab) - mean_L * mean_ab) / (variance + STEADY)


def _mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)
