"""The palette: the mixture by hand, shares, where the colours start, what they hang on, and that they learn."""

import math

import pytest
import torch
from torch import nn

from colorlib.palette import ColorPalette, Palette

SCENE, PIXELS = [8, 5, 6], 7  # channels of three maps to look at, and of the map to paint


def trained(size: int = 6, scene=SCENE) -> ColorPalette:
    """A palette that scenes shift, as after some training."""
    torch.manual_seed(0)
    palette = ColorPalette(size, scene, PIXELS, features=16)
    nn.init.normal_(palette.shift.weight, std=0.3)
    return palette


def batch(photos: int = 2, scene=SCENE) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Feature maps of another size each, and pixels to paint."""
    maps = [torch.randn(photos, channels, 2 + level, 3 + level) for level, channels in enumerate(scene)]
    return maps, torch.randn(photos, PIXELS, 6, 5)


def test_mixture_by_hand():
    """Each pixel's shares are a softmax of how well the colours fit it; its ab is their mean colour."""
    palette = trained(size=3)
    maps, pixels = batch(photos=1)
    with torch.no_grad():
        tokens = [look(m)[0, :, y, x] for look, m in zip(palette.look, maps, strict=True)
                  for y in range(m.shape[2]) for x in range(m.shape[3])]  # fmt: skip
        queries = palette.queries[None]
        for layer in palette.attend:
            queries = layer(queries, torch.stack(tokens)[None])
        queries = palette.norm(queries)[0]
        colors = [torch.tanh(anchor + palette.shift(q)) for anchor, q in zip(palette.anchors, queries, strict=True)]
        features = palette.pixel(pixels)[0]
        expected, shares = torch.zeros(1, 2, 6, 5), torch.zeros(1, 3)
        for y in range(6):
            for x in range(5):
                fit = [(palette.key(q) @ features[:, y, x] + palette.weight(q)).exp().item() for q in queries]
                for number, color in enumerate(colors):
                    share = fit[number] / sum(fit)
                    expected[0, :, y, x] += share * color
                    shares[0, number] += share / 30
        ab, chosen = palette(maps, pixels)
    assert isinstance(chosen, Palette)
    torch.testing.assert_close(ab, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(chosen.colors, torch.stack(colors)[None], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(chosen.shares, shares, atol=1e-5, rtol=1e-4)


def test_shares_sum_to_1_and_are_how_much_of_the_picture_each_color_paints():
    palette = trained()
    maps, pixels = batch(photos=3)
    ab, (colors, shares) = palette(maps, pixels)
    assert colors.shape == (3, 6, 2) and shares.shape == (3, 6)
    assert (shares > 0).all()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(3))
    # the mean of the mixtures is the mixture of the mean shares
    torch.testing.assert_close(ab.mean(dim=(2, 3)), (shares.unsqueeze(-1) * colors).sum(dim=1))


def test_one_color_paints_all_where_the_scene_wants_no_other():
    palette = trained()
    with torch.no_grad():
        palette.key.weight.zero_(), palette.key.bias.zero_()
        palette.weight.weight.mul_(1e4)
        ab, (colors, shares) = palette(*batch(photos=1))
    number = shares[0].argmax()
    assert shares[0, number] > 0.999
    torch.testing.assert_close(ab, colors[:, number].view(1, 2, 1, 1).expand_as(ab), atol=1e-3, rtol=0)


def test_colors_stay_inside_the_plane():
    palette = trained()
    with torch.no_grad():
        palette.anchors.mul_(3)
        ab, (colors, _) = palette(*batch())
    assert -1 < colors.min() < -0.6 and 0.6 < colors.max() < 1
    assert ab.abs().max() <= colors.abs().max(), "a mixture goes no further than its colours"


def test_all_scenes_start_with_one_palette_and_training_tells_them_apart():
    torch.manual_seed(0)
    palette = ColorPalette(4, [8], PIXELS, features=16)
    maps, pixels = [torch.randn(2, 8, 3, 3)], torch.randn(2, PIXELS, 4, 4)
    _, (colors, shares) = palette(maps, pixels)
    assert torch.equal(colors[0], colors[1]) and not torch.equal(shares[0], shares[1])
    assert (colors[0] - torch.tanh(palette.anchors)).abs().max() < 0.3, "near the anchors"

    truth = torch.tensor([[0.5, -0.4], [-0.3, 0.6]]).view(2, 2, 1, 1).expand(2, 2, 4, 4)
    optimizer = torch.optim.Adam(palette.parameters(), lr=0.02)
    losses = []
    for _ in range(25):
        ab, _ = palette(maps, pixels)
        losses.append((ab - truth).abs().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]
    _, (colors, _) = palette(maps, pixels)
    assert (colors[0] - colors[1]).abs().max() > 0.1


def test_every_map_of_the_scene_changes_the_colors_but_the_pixels_do_not():
    palette = trained()
    maps, pixels = batch(photos=1)
    _, (before, shares) = palette(maps, pixels)
    for level in range(3):
        changed = [m + torch.randn_like(m) if number == level else m for number, m in enumerate(maps)]
        assert (palette(changed, pixels)[1].colors - before).abs().max() > 1e-4
    _, (colors, other_shares) = palette(maps, pixels + torch.randn_like(pixels))
    assert torch.equal(colors, before) and not torch.equal(other_shares, shares)


def test_where_something_stands_in_the_scene_does_not_matter():
    palette = trained()
    maps, pixels = batch()
    mirrored = [m.flip(2, 3) for m in maps]
    torch.testing.assert_close(palette(mirrored, pixels)[0], palette(maps, pixels)[0], atol=1e-5, rtol=1e-4)


def test_mirrored_pixels_give_mirrored_colors():
    palette = trained()
    maps, pixels = batch()
    torch.testing.assert_close(palette(maps, pixels.flip(3))[0].flip(3), palette(maps, pixels)[0])


def test_photos_of_a_batch_do_not_mix():
    palette = trained()
    maps, pixels = batch(photos=3)
    together = palette(maps, pixels)[0]
    alone = palette([m[1:2] for m in maps], pixels[1:2])[0]
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_every_weight_learns():
    palette = trained()
    ab, _ = palette(*batch())
    (ab.square().sum() + ab[:, 0].sum()).backward()
    # these two shift the fit of all colours alike, which a softmax does not see
    unseen = {"key.bias", "weight.bias"}
    gradients = {name: parameter.grad.abs().max().item() for name, parameter in palette.named_parameters()}
    assert {name for name, size in gradients.items() if size < 1e-4} <= unseen


def test_use_gives_what_training_gives():
    """No dropout, no batch statistics; the quicker attention that torch has for use computes the same."""
    palette = trained()
    maps, pixels = batch()
    expected, chosen = palette.train()(maps, pixels)
    with torch.inference_mode():
        ab, used = palette.eval()(maps, pixels)
    torch.testing.assert_close(ab, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(used.colors, chosen.colors, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scene", [[3], [3, 8], [4, 4, 4, 4, 4]])
def test_any_number_of_maps_of_any_size(scene):
    palette = trained(size=2, scene=scene)
    for height, width in ((1, 1), (1, 9), (5, 2)):
        maps = [torch.randn(1, channels, height + level, width) for level, channels in enumerate(scene)]
        ab, (colors, shares) = palette(maps, torch.randn(1, PIXELS, width, height))
        assert ab.shape == (1, 2, width, height) and ab.isfinite().all()
        assert colors.shape == (1, 2, 2) and shares.shape == (1, 2)


def test_a_map_too_few_is_an_error():
    maps, pixels = batch()
    with pytest.raises(ValueError):
        trained()(maps[:2], pixels)


@pytest.mark.parametrize("size", [1, 0, -3])
def test_too_few_colors(size):
    with pytest.raises(ValueError, match=f"at least 2 colours, got {size}"):
        ColorPalette(size, SCENE, PIXELS)


def test_anchors_by_hand():
    anchors = ColorPalette(4, [3], PIXELS, features=8).anchors
    turn = math.radians(137.50776)
    for number, anchor in enumerate(anchors.tolist()):
        radius = 0.5 * math.sqrt((number + 0.5) / 4)
        angle = (number + 0.5) * turn
        assert anchor == pytest.approx([radius * math.cos(angle), radius * math.sin(angle)], abs=1e-5)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_anchors_are_spread_over_the_plane(size):
    anchors = ColorPalette(size, [3], PIXELS, features=8).anchors.detach()
    radius = anchors.norm(dim=1)
    assert radius.max() < 0.5 and radius.min() < 0.15, "from near gray to ±64 units"
    assert anchors.mean(dim=0).norm() < 0.1
    for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        quarter = ((anchors * torch.tensor([a, b])) > 0).all(dim=1)
        assert quarter.float().mean() >= 0.12, "no quarter of the plane is left out"
    distance = torch.cdist(anchors, anchors) + torch.eye(size)
    assert distance.min() > 0.7 * 0.5 * math.sqrt(1 / size), "no two are about the same"


def test_anchors_do_not_hang_on_chance():
    first, second = (ColorPalette(5, [3], PIXELS, features=8) for _ in range(2))
    assert torch.equal(first.anchors, second.anchors) and not torch.equal(first.queries, second.queries)
    assert first.anchors.requires_grad
