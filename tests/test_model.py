"""The network: shapes at every stage, parameters, skips, padding, precision; residual blocks, and the palette."""

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from colorlib.model import CORRECTION, ResidualBlock, UNet, UNetBlock
from colorlib.palette import Palette


def small(depth: int = 4, width: int = 4, palette: int = 0, residual: int = 0) -> UNet:
    """A small network that has seen some pictures, so that its batch norms are no identity, and neither is the rest."""
    torch.manual_seed(0)
    model = UNet(width, depth, palette=palette, residual=residual)
    for block in (block for blocks in model.deeper for block in blocks):
        nn.init.normal_(block.norm2.weight, std=0.5)
    if palette:
        nn.init.normal_(model.palette.shift.weight, std=0.1)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 1, 32, 32) * 2 - 1)
    return model.eval()


def empty(*arguments) -> UNet:
    """A network of full size without memory for its weights: shapes and counts only."""
    with torch.device("meta"):
        return UNet(*arguments)


def shapes(model: UNet, side: int) -> dict[str, tuple[int, ...]]:
    """The shape that leaves each part of the network."""
    found = {}
    for name, module in model.named_modules():
        if name in ("bottleneck", "final") or name.count(".") == 1:
            module.register_forward_hook(lambda _, __, out, name=name: found.update({name: tuple(out.shape[1:])}))
    found["output"] = tuple(model(torch.empty(1, 1, side, side, device="meta")).shape[1:])
    return found


def test_shapes_of_the_original():
    assert shapes(empty(), 256) == {
        "down.0": (64, 128, 128), "down.1": (128, 64, 64), "down.2": (256, 32, 32), "down.3": (512, 16, 16),
        "down.4": (512, 8, 8), "down.5": (512, 4, 4), "bottleneck": (512, 2, 2), "up.0": (512, 4, 4),
        "up.1": (512, 8, 8), "up.2": (512, 16, 16), "up.3": (256, 32, 32), "up.4": (128, 64, 64),
        "up.5": (64, 128, 128), "final": (2, 256, 256), "output": (2, 256, 256),
    }  # fmt: skip


def test_shapes_at_depth_8():
    found = shapes(empty(64, 8), 256)
    assert found["bottleneck"] == (512, 1, 1) and found["down.6"] == (512, 2, 2) and found["up.0"] == (512, 2, 2)
    assert len(found) == 17 and found["output"] == (2, 256, 256)


@pytest.mark.parametrize(("arguments", "count"), [((), 41_825_538), ((64, 7), 41_825_538), ((64, 8), 54_410_498)])
def test_parameters(arguments, count):
    assert sum(parameter.numel() for parameter in empty(*arguments).parameters()) == count


def test_skips_double_the_inputs_of_all_decoder_blocks_but_the_first():
    model = empty()
    assert [block.conv.in_channels for block in model.up] == [512, 1024, 1024, 1024, 512, 256]
    assert model.final.in_channels == 128


def test_convolutions_are_4_by_4_with_stride_2():
    convolutions = [m for m in empty().modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 14
    for convolution in convolutions:
        geometry = (convolution.kernel_size, convolution.stride, convolution.padding)
        assert geometry == ((4, 4), (2, 2), (1, 1))


def test_biases_only_where_no_batch_norm_follows():
    model = empty()
    biased = {
        name
        for name, m in model.named_modules()
        if getattr(m, "bias", None) is not None and "conv" in type(m).__name__.lower()
    }
    assert biased == {"bottleneck", "final"}
    norms = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == {f"{side}.{level}.norm" for side in ("down", "up") for level in range(6)}


@pytest.mark.parametrize("depth", [4, 7, 8])
def test_dropout_in_the_first_three_decoder_blocks_only(depth):
    model = empty(8, depth, 0.3)
    shares = {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    assert shares == {f"up.{level}.dropout": 0.3 for level in range(3)}
    assert {m.p for m in empty().modules() if isinstance(m, nn.Dropout)} == {0.5}, "the original's share"


@pytest.mark.parametrize("down", [True, False])
def test_block_by_hand(down):
    block = UNetBlock(3, 5, down=down, use_dropout=False)
    x = torch.rand(4, 3, 8, 8)
    convolve = F.conv2d if down else F.conv_transpose2d
    features = convolve(x, block.conv.weight, stride=2, padding=1)
    centred = features - features.mean(dim=(0, 2, 3), keepdim=True)
    normal = centred / (centred.square().mean(dim=(0, 2, 3), keepdim=True) + 1e-5).sqrt()
    result = block(x)
    assert result.shape == ((4, 5, 4, 4) if down else (4, 5, 16, 16))
    torch.testing.assert_close(result, normal.relu(), atol=1e-5, rtol=1e-4)


def test_block_drops_features_only_while_training():
    block = UNetBlock(3, 64, down=True, use_dropout=True, dropout=0.5)
    x = torch.rand(2, 3, 16, 16)
    dropped = (block(x) == 0).float().mean() - (F.relu(block.norm(block.conv(x))) == 0).float().mean()
    assert 0.2 < dropped < 0.3, "half of the half that the ReLU leaves"
    block.eval()
    assert torch.equal(block(x), F.relu(block.norm(block.conv(x))))


def test_forward_by_hand():
    model = small(depth=4)
    L = torch.rand(2, 1, 32, 48) * 2 - 1
    a = model.down[0](L)
    b = model.down[1](a)
    c = model.down[2](b)
    x = F.relu(model.bottleneck(c))
    x = torch.cat([model.up[0](x), c], dim=1)
    x = torch.cat([model.up[1](x), b], dim=1)
    x = torch.cat([model.up[2](x), a], dim=1)
    torch.testing.assert_close(model(L), torch.tanh(model.final(x)))


def test_every_skip_is_used():
    """What the decoder gets beside its own features are the encoder's of that size, and it matters."""
    model = small(depth=5)
    L = torch.rand(1, 1, 32, 32) * 2 - 1
    encoded, skips = [], []
    receivers = [*model.up[1:], model.final]
    hooks = [block.register_forward_hook(lambda _, __, out: encoded.append(out)) for block in model.down]
    hooks += [block.register_forward_pre_hook(lambda _, x: skips.append(x[0])) for block in receivers]
    before = model(L)
    [hook.remove() for hook in hooks]
    for skip, features in zip(skips, reversed(encoded), strict=True):
        assert torch.equal(skip[:, -features.shape[1] :], features)

    def without_skip(_, x):
        half = x[0].shape[1] // 2
        return torch.cat([x[0][:, :half], torch.zeros_like(x[0][:, half:])], dim=1)

    for block in receivers:
        hook = block.register_forward_pre_hook(without_skip)
        assert (model(L) - before).abs().max() > 1e-4
        hook.remove()
    assert torch.equal(model(L), before)


@pytest.mark.parametrize(("depth", "parts"), [(4, (0, 0)), (7, (0, 0)), (4, (3, 1)), (7, (2, 2))])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (255, 257), (16, 16), (129, 64)])
def test_any_size_comes_back(size, depth, parts):
    ab = small(depth, 4, *parts)(torch.rand(1, 1, *size) * 2 - 1)
    assert ab.shape == (1, 2, *size) and ab.isfinite().all()


def test_padding_repeats_the_edge_on_the_right_and_below():
    model = small(depth=4)
    L = torch.rand(2, 1, 21, 35) * 2 - 1
    padded = torch.from_numpy(np.pad(L.numpy(), ((0, 0), (0, 0), (0, 11), (0, 13)), mode="edge"))
    torch.testing.assert_close(model(L), model(padded)[..., :21, :35])


def test_no_padding_where_none_is_needed():
    model = small(depth=4)
    seen = []
    model.down[0].register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[-2:]))
    model(torch.zeros(1, 1, 32, 48)), model(torch.zeros(1, 1, 33, 48))
    assert seen == [(32, 48), (48, 48)]


@pytest.mark.parametrize("parts", [(0, 0), (3, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision(dtype, parts):
    model = small(4, 4, *parts).to(dtype)
    ab = model((torch.rand(1, 1, 33, 32) * 2 - 1).to(dtype))
    assert ab.dtype == dtype and ab.isfinite().all()
    reference = small(4, 4, *parts)
    L = torch.rand(1, 1, 32, 32) * 2 - 1
    assert (model(L.to(dtype)).float() - reference(L)).abs().max() < 0.05


@torch.no_grad()
def test_mixed_precision_with_all_parts():
    model = small(5, 4, 3, 1)
    L = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        ab, (colors, shares) = model.paint(L)
    expected, palette = model.paint(L)
    assert (ab.float() - expected).abs().max() < 0.05 and (colors.float() - palette.colors).abs().max() < 0.05
    torch.testing.assert_close(shares.float().sum(dim=1), torch.ones(2), atol=0.02, rtol=0)


def test_values_lie_between_minus_1_and_1_on_both_sides_of_0():
    model = small(depth=4)
    with torch.no_grad():
        model.final.weight.mul_(10)
    ab = model(torch.rand(2, 1, 64, 64) * 2 - 1)
    assert -1 < ab.min() < -0.3 and 0.3 < ab.max() < 1


@pytest.mark.parametrize("parts", [(0, 0), (3, 1)])
def test_photos_of_a_batch_do_not_mix_in_use(parts):
    model = small(4, 4, *parts)
    L = torch.rand(3, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(model(L)[1:2], model(L[1:2]), atol=1e-5, rtol=1e-4)


def test_every_weight_learns():
    model = UNet(4, 5, dropout=0.0)
    model(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_every_weight_of_all_parts_learns():
    model = small(5, 4, 3, 2).train()
    ab = model(torch.rand(2, 1, 32, 32) * 2 - 1)
    (ab.square().sum() + ab[:, 0].sum()).backward()
    sizes = {name: parameter.grad.abs().max().item() for name, parameter in model.named_parameters()}
    # a softmax does not see what shifts the fit of all colours alike
    assert {name for name, size in sizes.items() if size < 1e-5} <= {"palette.key.bias", "palette.weight.bias"}


@pytest.mark.parametrize("parts", [(0, 0), (2, 1)])
def test_trains_on_one_photo_whose_bottleneck_is_a_single_pixel(parts):
    UNet(4, 4, 0.5, *parts).train()(torch.rand(1, 1, 16, 16)).sum().backward()


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (32, 32), (1, 32, 32), (1, 1, 1, 32, 32)])
def test_wrong_shape(shape):
    for answer in (small(), small().paint):
        with pytest.raises(ValueError, match=r"expected L of shape \(B, 1, H, W\), got \(") as caught:
            answer(torch.zeros(shape))
        assert str(tuple(shape)) in str(caught.value)


def test_too_shallow():
    with pytest.raises(ValueError, match=r"depth must be at least 4.*got 3"):
        UNet(8, 3)


# the original network, with and without the new parts


class Original(nn.Module):
    """The network before it had options, from torch's own layers; depth 5."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        a, b, c, d = width, 2 * width, 4 * width, 8 * width
        self.down = nn.ModuleList(self.block(*pair, nn.Conv2d) for pair in ((1, a), (a, b), (b, c), (c, d)))
        self.bottleneck = nn.Conv2d(d, d, 4, 2, 1)
        pairs = ((d, d), (2 * d, c), (2 * c, b), (2 * b, a))
        self.up = nn.ModuleList(self.block(*pair, nn.ConvTranspose2d) for pair in pairs)
        self.final = nn.ConvTranspose2d(2 * a, 2, 4, 2, 1)
        self.dropout = dropout

    @staticmethod
    def block(before: int, after: int, convolution: type[nn.Module]) -> nn.Module:
        conv = convolution(before, after, 4, 2, 1, bias=False)
        return nn.ModuleDict({"conv": conv, "norm": nn.BatchNorm2d(after)})

    def forward(self, L):
        features = [L]
        for block in self.down:
            features.append(block["norm"](block["conv"](features[-1])).relu())
        x = self.bottleneck(features[-1]).relu()
        for level, block in enumerate(self.up):
            x = block["norm"](block["conv"](x)).relu()
            x = F.dropout(x, self.dropout, self.training) if level < 3 else x
            x = torch.cat([x, features[-1 - level]], dim=1)
        return self.final(x).tanh()


def test_without_options_it_is_the_original_bit_for_bit():
    torch.manual_seed(4)
    original = Original(4, 0.3)
    torch.manual_seed(4)
    model = UNet(4, 5, 0.3, palette=0, residual=0)
    weights, expected = model.state_dict(), original.state_dict()
    assert list(weights) == list(expected), "saved runs open, and nothing was added to them"
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    L = torch.rand(3, 1, 32, 64) * 2 - 1
    answers = []
    for network in (original, model):  # in training, with dropout, then in use
        torch.manual_seed(5)
        answers.append((network.train()(L), network.eval()(L)))
    assert torch.equal(answers[0][0], answers[1][0]) and torch.equal(answers[0][1], answers[1][1])
    assert not torch.equal(answers[0][0], answers[0][1])


@pytest.mark.parametrize("parts", [(3, 0), (0, 2), (5, 1)])
def test_the_original_weights_start_the_same_with_all_parts(parts):
    torch.manual_seed(4)
    plain = UNet(4, 5, 0.3).state_dict()
    torch.manual_seed(4)
    weights = UNet(4, 5, 0.3, *parts).state_dict()
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    assert {name.split(".")[0] for name in set(weights) - set(plain)} == {
        part for part, number in zip(("palette", "deeper"), parts, strict=True) if number
    }


@pytest.mark.parametrize("training", [True, False])
def test_residual_blocks_change_nothing_at_the_start(training):
    L = torch.rand(2, 1, 32, 32) * 2 - 1
    answers = []
    for residual in (0, 2):
        torch.manual_seed(4)
        answers.append(UNet(4, 5, dropout=0.0, residual=residual).train(training)(L))
    assert torch.equal(*answers)


@pytest.mark.parametrize("depth", [5, 6])
def test_half_width_with_all_parts_fits_into_24_mb_at_2_bytes_a_weight(depth):
    weights = empty(32, depth, 0.1, 32, 1).state_dict().values()
    assert 2 * sum(weight.numel() for weight in weights) < 24e6


def test_arguments_have_the_order_of_the_settings():
    """`Config.network` gives them by position."""
    assert list(inspect.signature(UNet).parameters) == ["width", "depth", "dropout", "palette", "residual"]


# residual blocks


def test_residual_block_starts_as_the_identity():
    block = ResidualBlock(5)
    x = torch.rand(2, 5, 7, 6)
    assert torch.equal(block.train()(x), x) and torch.equal(block.eval()(x), x)


def test_residual_block_can_leave_the_identity():
    """Its factor of 0 gets a gradient, and once it is raised all its weights do."""
    block = ResidualBlock(5)
    x = torch.rand(2, 5, 7, 6)
    block(x).square().sum().backward()
    assert block.norm2.weight.grad.abs().min() > 0 and block.conv1.weight.grad.abs().max() == 0
    torch.optim.SGD(block.parameters(), 0.01).step()
    block(x).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-4 for parameter in block.parameters())


def test_residual_block_by_hand():
    block = ResidualBlock(3)
    for norm in (block.norm1, block.norm2):
        nn.init.uniform_(norm.weight, 0.5, 1.5), nn.init.uniform_(norm.bias, -0.5, 0.5)
    x = torch.rand(4, 3, 6, 5)

    def convolve_and_normalise(x, weight, norm):
        features = F.conv2d(x, weight, padding=1)
        centred = features - features.mean(dim=(0, 2, 3), keepdim=True)
        normal = centred / (centred.square().mean(dim=(0, 2, 3), keepdim=True) + 1e-5).sqrt()
        return normal * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)

    y = convolve_and_normalise(x, block.conv1.weight, block.norm1).clamp(min=0)
    y = (x + convolve_and_normalise(y, block.conv2.weight, block.norm2)).clamp(min=0)
    assert block.conv1.weight.shape == block.conv2.weight.shape == (3, 3, 3, 3)
    torch.testing.assert_close(block(x), y, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("depth", "residual"), [(4, 1), (5, 2), (7, 3)])
def test_residual_blocks_sit_behind_all_encoder_blocks_but_the_first_two(depth, residual):
    model = empty(4, depth, 0.5, 0, residual)
    order = []
    for name, module in model.named_modules():
        if name.count(".") == 1 and name.startswith(("down", "deeper")):
            module.register_forward_hook(lambda _, __, out, name=name: order.append((name, tuple(out.shape[1:]))))
    model(torch.empty(1, 1, 128, 128, device="meta"))
    expected = []
    for level in range(depth - 1):
        shape = (4 * min(2**level, 8), 64 // 2**level, 64 // 2**level)
        expected += [(f"down.{level}", shape)] + [(f"deeper.{level - 2}", shape)] * (level >= 2)
    assert order == expected
    assert [[type(block) for block in blocks] for blocks in model.deeper] == [[ResidualBlock] * residual] * (depth - 3)


def test_forward_with_residual_blocks_by_hand():
    model = small(depth=5, residual=2)
    L = torch.rand(2, 1, 32, 64) * 2 - 1
    a = model.down[0](L)
    b = model.down[1](a)
    c = model.deeper[0][1](model.deeper[0][0](model.down[2](b)))
    d = model.deeper[1][1](model.deeper[1][0](model.down[3](c)))
    x = F.relu(model.bottleneck(d))
    for block, skip in zip(model.up, (d, c, b, a), strict=True):
        x = torch.cat([block(x), skip], dim=1)
    torch.testing.assert_close(model(L), torch.tanh(model.final(x)))
    without = small(depth=5, residual=2)
    without.deeper = nn.ModuleList()
    assert (model(L) - without(L)).abs().max() > 1e-3, "and they matter"


# the palette


def test_no_palette_without_one():
    model = small()
    L = torch.rand(2, 1, 20, 32) * 2 - 1
    ab, palette = model.paint(L)
    assert palette is None and torch.equal(ab, model(L))


def test_paint_gives_what_forward_gives_and_the_palette():
    model = small(depth=5, palette=3)
    L = torch.rand(2, 1, 33, 50) * 2 - 1
    ab, palette = model.paint(L)
    assert torch.equal(ab, model(L)) and ab.shape == (2, 2, 33, 50)
    assert isinstance(palette, Palette) and palette.colors.shape == (2, 3, 2) and palette.shares.shape == (2, 3)
    assert (palette.colors[0] - palette.colors[1]).abs().max() > 1e-4, "another scene, other colours"


@torch.no_grad()
def test_paint_by_hand():
    """The palette sees the bottleneck and the two coarsest decoder maps and paints the finest; final corrects it."""
    model = small(depth=5, palette=3)
    model.final.weight.mul_(10), model.palette.anchors.mul_(30)  # so that some sums leave [−1, 1]
    model.palette.pixel.weight.mul_(100)  # and pixels choose one colour each
    L = torch.rand(2, 1, 32, 64) * 2 - 1
    encoded = [L]
    for block in model.down:
        encoded.append(block(encoded[-1]))
    x = F.relu(model.bottleneck(encoded[-1]))
    maps = [x]
    for block, skip in zip(model.up, reversed(encoded[1:]), strict=True):
        x = torch.cat([block(x), skip], dim=1)
        maps.append(x)
    mixture, palette = model.palette(maps[:3], maps[-1])
    assert mixture.shape == (2, 2, 16, 32)
    large = np.stack([[_doubled(channel) for channel in photo] for photo in mixture.numpy()])
    total = torch.from_numpy(large) + CORRECTION * torch.tanh(model.final(maps[-1]))
    assert total.abs().max() > 1 and 0 < CORRECTION <= 0.1, "the palette's colours are those of the picture"
    ab, chosen = model.paint(L)
    torch.testing.assert_close(ab, total.clamp(-1, 1).float(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(chosen, palette)


def _doubled(values: np.ndarray) -> np.ndarray:
    """Twice as large, bilinear: each new pixel is ¾ of the nearest old one and ¼ of the next, along both sides."""
    for _ in range(2):
        before, after = np.vstack([values[:1], values[:-1]]), np.vstack([values[1:], values[-1:]])
        pairs = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis=1)
        values = pairs.reshape(-1, values.shape[1]).T
    return values


def test_palette_of_one_color_is_refused():
    with pytest.raises(ValueError, match="at least 2 colours, got 1"):
        UNet(4, 4, palette=1)
