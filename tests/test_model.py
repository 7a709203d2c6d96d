"""The network: shapes at every stage, parameters, skips, padding, precision."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from colorlib.model import UNet, UNetBlock


def small(depth: int = 4, width: int = 4) -> UNet:
    """A small network that has seen some pictures, so that its batch norms are no identity."""
    torch.manual_seed(0)
    model = UNet(width, depth)
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


@pytest.mark.parametrize("depth", [4, 7])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (255, 257), (16, 16), (129, 64)])
def test_any_size_comes_back(size, depth):
    ab = small(depth)(torch.rand(1, 1, *size) * 2 - 1)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision(dtype):
    model = small(depth=4).to(dtype)
    ab = model((torch.rand(1, 1, 33, 32) * 2 - 1).to(dtype))
    assert ab.dtype == dtype and ab.isfinite().all()
    reference = small(depth=4)
    L = torch.rand(1, 1, 32, 32) * 2 - 1
    assert (model(L.to(dtype)).float() - reference(L)).abs().max() < 0.05


def test_values_lie_between_minus_1_and_1_on_both_sides_of_0():
    model = small(depth=4)
    with torch.no_grad():
        model.final.weight.mul_(10)
    ab = model(torch.rand(2, 1, 64, 64) * 2 - 1)
    assert -1 < ab.min() < -0.3 and 0.3 < ab.max() < 1


def test_photos_of_a_batch_do_not_mix_in_use():
    model = small()
    L = torch.rand(3, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(model(L)[1:2], model(L[1:2]), atol=1e-5, rtol=1e-4)


def test_every_weight_learns():
    model = UNet(4, 5, dropout=0.0)
    model(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_trains_on_one_photo_whose_bottleneck_is_a_single_pixel():
    UNet(4, 4).train()(torch.rand(1, 1, 16, 16)).sum().backward()


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (32, 32), (1, 32, 32), (1, 1, 1, 32, 32)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"expected L of shape \(B, 1, H, W\), got \(") as caught:
        small()(torch.zeros(shape))
    assert str(tuple(shape)) in str(caught.value)


def test_too_shallow():
    with pytest.raises(ValueError, match=r"depth must be at least 4.*got 3"):
        UNet(8, 3)
