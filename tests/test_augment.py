"""Random views and tones of training photos."""

import math

import numpy as np
import torch

from colorlib.augment import random_tone, random_view
from colorlib.color import encode_lab, rgb_to_lab
from colorlib.config import Config

PLAIN = Config(image_size=32, photo_size=32)
HALF = 0.5  # of [0, 1): the crop in the middle, no turn, no mirror, no change of tone


def draw(lab: torch.Tensor, config: Config, count: int, seed: int = 0) -> torch.Tensor:
    """Random views of one picture, as a batch."""
    chance = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed))
    return random_view(lab.expand(count, -1, -1, -1), chance, config)


def view(lab: torch.Tensor, config: Config, crop=HALF, turn=HALF, mirror=HALF, x=HALF, y=HALF) -> torch.Tensor:
    """The view of one picture that these decisions give."""
    return random_view(lab[None], torch.tensor([[crop, turn, mirror, x, y]]), config)[0]


def coordinates(side: int = 64) -> torch.Tensor:
    """A picture that says where it is seen: the first channel is x and the second is y, from 0 to 1."""
    centres = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)])


def assert_near(found: torch.Tensor, wanted: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, atol=atol, rtol=0)


def test_view_without_augmentation_is_the_photo():
    lab = torch.rand(3, 32, 32)
    assert_near(draw(lab, PLAIN, 20), lab.expand(20, -1, -1, -1))


def test_views_by_hand():
    """Of a quarter of the area, each corner, the middle and the whole: crops whose pixels are the photo's own."""
    lab = torch.rand(3, 64, 64)
    config = PLAIN.replace(min_crop=0.25, flip=True, rotate=30.0)
    assert_near(view(lab, config, crop=0, x=0, y=0), lab[:, :32, :32])
    assert_near(view(lab, config, crop=0, x=1, y=0), lab[:, :32, 32:])
    assert_near(view(lab, config, crop=0, x=0, y=1), lab[:, 32:, :32])
    assert_near(view(lab, config, crop=0, x=1, y=1), lab[:, 32:, 32:])
    assert_near(view(lab, config, crop=0), lab[:, 16:48, 16:48])
    assert_near(view(lab, config, crop=0, x=0.25, y=0.75), lab[:, 24:56, 8:40])
    assert_near(view(lab, config, crop=0, x=0, y=0, mirror=0.49), lab[:, :32, :32].flip(-1))
    assert_near(view(lab, config.replace(flip=False), crop=0, x=0, y=0, mirror=0.0), lab[:, :32, :32])
    whole = config.replace(image_size=64)
    for x, y in ((0, 0), (0.3, 0.9)):
        assert_near(view(lab, whole, crop=1, x=x, y=y), lab)
    assert_near(view(lab, whole, crop=1, mirror=0), lab.flip(-1))


def test_turns_by_hand():
    """The pixels on the middle cross of a turned picture, from the turning's definition."""
    config = Config(image_size=65, photo_size=65, rotate=40.0)
    steps = (torch.arange(65) + 0.5) / 65 - 0.5  # from the middle, as a share of the picture's side
    for turn, degrees in ((0.0, -40), (0.25, -20), (0.5, 0), (1.0, 40)):
        x, y, _ = view(coordinates(65), config, turn=turn)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        assert_near(x[32, 8:57], (0.5 + cos * steps)[8:57], 1e-4)
        assert_near(y[32, 8:57], (0.5 + sin * steps)[8:57], 1e-4)
        assert_near(x[8:57, 32], (0.5 - sin * steps)[8:57], 1e-4)
        assert_near(y[8:57, 32], (0.5 + cos * steps)[8:57], 1e-4)


def test_each_row_of_a_batch_has_its_own_view():
    labs, chance = torch.rand(12, 3, 48, 48), torch.rand(12, 5)
    config = PLAIN.replace(min_crop=0.3, flip=True, rotate=20.0)
    together = random_view(labs, chance, config)
    for row in range(12):
        assert torch.equal(together[row], random_view(labs[row : row + 1], chance[row : row + 1], config)[0])
    assert torch.equal(random_view(labs.flip(0), chance.flip(0), config), together.flip(0))


def test_flip_mirrors_about_half_of_the_photos():
    lab = torch.rand(3, 32, 32)
    views = draw(lab, PLAIN.replace(flip=True), 60)
    mirrored = (views - lab).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert_near(views, torch.where(mirrored.view(-1, 1, 1, 1), lab.flip(-1), lab), 1e-4)
    assert 15 < mirrored.sum() < 45


def test_crops_stay_inside_and_are_as_large_as_promised():
    views = draw(coordinates(), PLAIN.replace(min_crop=0.25), 80)
    x, y = views[:, 0], views[:, 1]
    step_x, step_y = x.diff(dim=2), y.diff(dim=1)
    assert step_x.min() > 0 and step_y.min() > 0, "neither mirrored nor reflected at the edge"
    assert_near(x, x[:, :1].expand(-1, 32, -1), 1e-4)
    assert_near(y, y[:, :, :1].expand(-1, -1, 32), 1e-4)
    sides = step_x[:, :, 8:24].mean(dim=(1, 2)) * 32
    torch.testing.assert_close(step_y[:, 8:24].mean(dim=(1, 2)) * 32, sides, rtol=1e-3, atol=0)  # squares stay squares
    areas = sides.square()
    assert 0.249 < areas.min() < 0.3 and 0.9 < areas.max() < 1.001
    lefts, tops = x[:, 0, 16] - sides * 16.5 / 32, y[:, 16, 0] - sides * 16.5 / 32
    for starts in (lefts, tops):
        ends = starts + sides
        assert starts.min() > -0.001 and ends.max() < 1.001
        assert starts.min() < 0.03 and ends.max() > 0.97, "every part of the photo is seen"
    assert abs(np.corrcoef(lefts, tops)[0, 1]) < 0.9, "left and top are drawn apart"


def test_areas_are_drawn_evenly():
    """A view of half the area is as likely as any other: it is the area that is uniform, not the side."""
    areas = [
        (view(coordinates(), PLAIN.replace(min_crop=0.2), crop=crop)[0].diff(dim=1)[:, 8:24].mean() * 32).square()
        for crop in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert [round(area.item(), 3) for area in areas] == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_flipped_crops_come_from_the_same_place():
    crops = PLAIN.replace(min_crop=0.25, rotate=15.0)
    lab = torch.rand(3, 64, 64)
    plain, other = draw(lab, crops.replace(rotate=0.0), 20), draw(lab, crops.replace(rotate=0.0, flip=True), 20)
    errors = torch.stack([(other - plain), (other - plain.flip(-1))]).abs().amax(dim=(2, 3, 4))
    assert errors.amin(dim=0).max() < 1e-4
    same = view(lab, crops.replace(flip=True), crop=0.2, turn=0.9, x=0.1, y=0.7, mirror=0.9)
    assert_near(view(lab, crops.replace(flip=True), crop=0.2, turn=0.9, x=0.1, y=0.7, mirror=0.1), same.flip(-1), 1e-4)


def test_rotation_is_small_to_both_sides_and_without_black_corners():
    middle = draw(coordinates(), PLAIN.replace(rotate=10.0), 60)[:, 0, 8:24, 8:24]
    down, right = middle.diff(dim=1).mean(dim=(1, 2)), middle.diff(dim=2).mean(dim=(1, 2))
    angles = torch.atan2(down, right).rad2deg()
    torch.testing.assert_close(torch.hypot(down, right) * 32, torch.ones(60), rtol=0.01, atol=0)  # not squeezed
    assert -10.1 < angles.min() < -7 and 7 < angles.max() < 10.1
    white = torch.ones(3, 32, 32)
    assert draw(white, PLAIN.replace(rotate=45.0), 10).min() > 0.999


def test_mirrored_and_turned_views_keep_right_angles():
    slopes = draw(coordinates(), PLAIN.replace(rotate=30.0, flip=True), 20)[:, :2, 10:22, 10:22]
    along_x, along_y = slopes.diff(dim=3).mean(dim=(2, 3)) * 32, slopes.diff(dim=2).mean(dim=(2, 3)) * 32
    assert (along_x * along_y).sum(dim=1).abs().max() < 0.01, "not sheared"
    torch.testing.assert_close(along_x.norm(dim=1), torch.ones(20), rtol=0.01, atol=0)
    assert along_y[:, 1].min() > 0.8, "never upside down"


def test_view_has_the_networks_size():
    assert draw(torch.rand(3, 48, 48), PLAIN.replace(min_crop=0.5), 2).shape == (2, 3, 32, 32)


def test_views_keep_L_and_ab_in_step():
    """Where ab is a linear function of L in the photo, it is the same one in every view."""
    L = torch.rand(1, 48, 48) * 2 - 1
    views = draw(torch.cat([L, 0.5 * L + 0.1, -0.3 * L - 0.2]), PLAIN.replace(min_crop=0.3, flip=True, rotate=45.0), 50)
    assert_near(views[:, 1], 0.5 * views[:, 0] + 0.1)
    assert_near(views[:, 2], -0.3 * views[:, 0] - 0.2)


def test_tones_by_hand():
    lab = torch.rand(1, 3, 8, 8) * 0.6 - 0.3
    L, ab = lab[:, :1], lab[:, 1:]
    config = PLAIN.replace(contrast=0.2, saturation=0.4)
    for row, contrast, saturation in (
        ((0.5, 0.5), 1.0, 1.0), ((0.0, 0.5), 0.8, 1.0), ((1.0, 0.5), 1.2, 1.0), ((0.5, 0.0), 1.0, 0.6),
        ((0.5, 1.0), 1.0, 1.4), ((0.25, 0.75), 0.9, 1.2),
    ):  # fmt: skip
        wanted = torch.cat([L.mean() + (L - L.mean()) * contrast, ab * saturation], dim=1)
        for gamma in (0.0, 0.5, 0.9):  # which decides nothing while gamma is off
            assert_near(random_tone(lab, torch.tensor([[gamma, *row]]), config), wanted, 1e-6)
    assert_near(random_tone(lab, torch.rand(1, 3), PLAIN), lab, 1e-6)


def test_gamma_by_hand():
    """The power of a lightness in [0, 1]: black and white stay, and opposite decisions undo each other."""
    L = torch.tensor([-1.0, -0.5, 0.0, 0.62, 1.0])  # L* of 0, 25, 50, 81 and 100
    lab = torch.stack([L, L / 4, -L / 8]).view(1, 3, 1, 5)
    config = PLAIN.replace(gamma=math.log(2))
    for chance, shares in (
        (1.0, [0, 0.0625, 0.25, 0.6561, 1]),  # squares
        (0.0, [0, 0.5, math.sqrt(0.5), 0.9, 1]),  # roots
        (0.5, [0, 0.25, 0.5, 0.81, 1]),
        (0.75, [share ** math.sqrt(2) for share in (0, 0.25, 0.5, 0.81, 1)]),  # half of the way, of the logarithm
    ):
        changed = random_tone(lab, torch.tensor([[chance, 0.5, 0.5]]), config)
        assert_near(changed[0, 0, 0], 2 * torch.tensor(shares) - 1)
        assert torch.equal(changed[:, 1:], lab[:, 1:])
        back = random_tone(changed, torch.tensor([[1 - chance, 0.5, 0.5]]), config)
        assert_near(back, lab)


def test_gamma_comes_before_contrast():
    """Contrast changes about the mean of the L that gamma has left."""
    lab, config = torch.rand(1, 3, 8, 8) * 0.4 - 0.1, PLAIN.replace(gamma=0.5)
    darker = random_tone(lab, torch.tensor([[1.0, 0.5, 0.5]]), config)[:, :1]
    together = random_tone(lab, torch.tensor([[1.0, 1.0, 0.5]]), config.replace(contrast=0.2))[:, :1]
    assert darker.mean() < lab[:, :1].mean() - 0.05
    assert_near(together, darker.mean() + 1.2 * (darker - darker.mean()))


def test_gamma_of_lightnesses_just_out_of_range_is_a_number():
    """16 bits round L of black and white to a little less and a little more than −1 and 1."""
    L = torch.tensor([-1.00001, -1.0, 1.0, 1.00001])
    lab = torch.stack([L, L, L]).view(1, 3, 1, 4).expand(20, -1, -1, -1)
    changed = random_tone(lab, torch.rand(20, 3), PLAIN.replace(gamma=2.0))
    assert_near(changed[:, 0, 0], torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(20, -1))


def test_each_row_of_a_batch_has_its_own_tone():
    """And its own mean brightness, about which the contrast changes."""
    labs, chance = torch.rand(6, 3, 8, 8) * 0.5 + torch.linspace(-0.6, 0.1, 6).view(6, 1, 1, 1), torch.rand(6, 3)
    for gamma in (0.5, 0.0):
        config = PLAIN.replace(gamma=gamma, contrast=0.3, saturation=0.3)
        together = random_tone(labs, chance, config)
        for row in range(6):
            assert torch.equal(together[row], random_tone(labs[row : row + 1], chance[row : row + 1], config)[0])
    assert_near(together[:, 0].mean(dim=(1, 2)), labs[:, 0].mean(dim=(1, 2)))


def tones(**change: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture's scaled Lab (1, 3, 16, 16) and 60 changed ones."""
    lab = torch.cat(encode_lab(rgb_to_lab(torch.rand(1, 3, 16, 16) * 0.5 + 0.25)), dim=1)
    chance = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    return lab, random_tone(lab.expand(60, -1, -1, -1), chance, PLAIN.replace(**change))


def test_gamma_changes_L_alone():
    lab, changed = tones(gamma=0.3)
    assert torch.equal(changed[:, 1:], lab[:, 1:].expand(60, -1, -1, -1))
    powers = (((changed[:, 0] + 1) / 2).log() / ((lab[:, 0] + 1) / 2).log()).flatten(1)
    assert (powers.amax(dim=1) - powers.amin(dim=1)).max() < 1e-3, "one power for all of a photo"
    powers = powers.mean(dim=1)
    assert math.exp(-0.301) < powers.min() < 0.79 and 1.27 < powers.max() < math.exp(0.301)
    assert 15 < (powers > 1).sum() < 45, "as often darker as lighter"


def test_contrast_changes_L_alone():
    lab, changed = tones(contrast=0.3)
    assert torch.equal(changed[:, 1:], lab[:, 1:].expand(60, -1, -1, -1))
    L, new_L = lab[:, 0], changed[:, 0]
    assert_near(new_L.mean(dim=(1, 2)), L.mean().expand(60))
    factors = ((new_L - L.mean()) * (L - L.mean())).sum(dim=(1, 2)) / (L - L.mean()).square().sum()
    assert_near(new_L, L.mean() + (L - L.mean()) * factors.view(-1, 1, 1))
    assert 0.699 < factors.min() < 0.75 and 1.25 < factors.max() < 1.301


def test_saturation_changes_ab_alone():
    lab, changed = tones(saturation=0.3)
    assert_near(changed[:, :1], lab[:, :1].expand(60, -1, -1, -1), 1e-6)
    factors = (changed[:, 1:] / lab[:, 1:]).flatten(1).median(dim=1).values
    assert_near(changed[:, 1:], lab[:, 1:] * factors.view(-1, 1, 1, 1))
    assert 0.699 < factors.min() < 0.75 and 1.25 < factors.max() < 1.301


def test_tone_stays_in_range():
    L, ab = torch.tensor([-1.0, 0.5, 1.0]), torch.tensor([-0.95, 0.9, 0.99])
    lab = torch.stack([L, ab, ab]).view(1, 3, 1, 3).expand(20, -1, -1, -1)
    changed = random_tone(lab, torch.rand(20, 3), PLAIN.replace(gamma=0.9, contrast=0.9, saturation=0.9))
    assert changed.abs().max() == 1
