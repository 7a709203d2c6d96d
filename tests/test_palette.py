"""The palette: arithmetic by hand, vividness, shares, where the colors start, other photos."""

import math

import pytest
import torch
from torch import nn

from colorlib.palette import ColorPalette, Palette

SCENE, PIXELS = [8, 5, 6], 7  # channels of three maps to look at, and of the map to paint


def trained(size: int = 6) -> ColorPalette:
    """A palette that scenes shift, as after some training."""
    torch.manual_seed(0)
    palette = ColorPalette(size, SCENE, PIXELS, features=16)
    nn.init.normal_(palette.shift.weight, std=0.3), nn.init.normal_(palette.spread.weight, std=0.3)
    return palette


def batch(photos: int = 2) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Feature maps of another size each, and pixels to paint."""
    maps = [torch.randn(photos, channels, 2 + level, 3 + level) for level, channels in enumerate(SCENE)]
    return maps, torch.randn(photos, PIXELS, 6, 5)


def known() -> Palette:
    """One photo of two pixels: red, green and blue with the weights .5, .3, .2 and .05, .05, .9."""
    colors = torch.tensor([[[0.5, 0.3], [-0.4, 0.3], [0.1, -0.6]]])
    weights = torch.tensor([[0.5, 0.05], [0.3, 0.05], [0.2, 0.9]]).view(1, 3, 1, 2)
    return Palette(colors, weights.log(), torch.full((1, 3), 0.1))


@torch.no_grad()
def test_forward_by_hand():
    """Queries look at all pixels of all maps; a pixel's weights are a softmax of how well the colors fit it."""
    palette, (maps, pixels) = trained(size=3), batch(photos=1)
    tokens = [look(m)[0, :, y, x] for look, m in zip(palette.look, maps, strict=True)
              for y in range(m.shape[2]) for x in range(m.shape[3])]  # fmt: skip
    queries = palette.queries[None]
    for layer in palette.attend:
        queries = layer(queries, torch.stack(tokens)[None])
    queries, features = palette.norm(queries)[0], palette.pixel(pixels)[0]
    chosen = palette(maps, pixels)
    for number, query in enumerate(queries):
        color = torch.tanh(palette.anchors[number] + palette.shift(query))
        torch.testing.assert_close(chosen.colors[0, number], color, atol=1e-5, rtol=1e-4)
        spread = 0.01 + math.log1p(math.exp(palette.spread(query)))
        assert chosen.spreads[0, number].item() == pytest.approx(spread, rel=1e-4)
    for y, x in ((0, 0), (3, 4), (5, 2)):
        fit = torch.stack([palette.key(q) @ features[:, y, x] + palette.weight(q)[0] for q in queries]).exp()
        torch.testing.assert_close(chosen.log_weights[0, :, y, x].exp(), fit / fit.sum(), atol=1e-5, rtol=1e-4)


def test_paint_and_shares_by_hand():
    palette = known()
    mean = [0.5 * 0.5 - 0.4 * 0.3 + 0.1 * 0.2, 0.3 * 0.5 + 0.3 * 0.3 - 0.6 * 0.2]
    assert palette.paint()[0, :, 0, 0].tolist() == pytest.approx(mean)
    assert palette.shares.tolist() == [pytest.approx([0.275, 0.175, 0.55])]
    likeliest = palette.paint(vividness=1)
    torch.testing.assert_close(likeliest, palette.colors[:, [0, 2]].mT.view(1, 2, 1, 2), atol=1e-6, rtol=0)
    squared = torch.tensor([0.25, 0.09, 0.04]) / 0.38  # half-way, the weights are squared
    torch.testing.assert_close(palette.weights(0.5)[0, :, 0, 0], squared)


@pytest.mark.parametrize("size", [8, 32])
def test_colors_start_as_a_spiral_over_the_plane(size):
    palette = ColorPalette(size, [3], PIXELS, features=8)
    anchors = palette.anchors.detach()
    for number, anchor in enumerate(anchors.tolist()):
        radius, angle = 0.5 * math.sqrt((number + 0.5) / size), (number + 0.5) * math.radians(137.50776)
        assert anchor == pytest.approx([radius * math.cos(angle), radius * math.sin(angle)], abs=1e-4)
    chosen = palette([torch.randn(2, 3, 2, 2)], torch.randn(2, PIXELS, 2, 2))
    assert torch.equal(chosen.colors[0], chosen.colors[1]), "all scenes start with one palette"
    assert (chosen.colors[0] - anchors.tanh()).abs().max() < 0.3 and palette.anchors.requires_grad


@torch.no_grad()
def test_a_photo_is_painted_alike_alone_and_among_others_in_training_and_in_use():
    palette, (maps, pixels) = trained(), batch(photos=3)
    trained_on = palette(maps, pixels).paint()
    alone = palette([m[1:2] for m in maps], pixels[1:2]).paint()
    torch.testing.assert_close(alone, trained_on[1:2], atol=1e-5, rtol=1e-4)
    used = palette.eval()(maps, pixels).paint()  # by torch's quicker attention
    torch.testing.assert_close(used, trained_on, atol=1e-5, rtol=1e-4)
