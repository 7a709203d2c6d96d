"""The network: the original recipe's exact shape and arithmetic, any photo size, residual blocks, and the palette."""

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from colorlib.model import CORRECTION, ResidualBlock, UNet, load_pretrained_encoder

OPTIONS = [{}, {"palette": 3, "residual_blocks": 1}]


def small(depth: int = 4, **options) -> UNet:
    """A small network in use, whose batch norms and residual blocks are no identity, and whose scenes differ."""
    torch.manual_seed(0)
    model = UNet(4, depth, **options)
    for block in (block for blocks in model.deeper for block in blocks):
        nn.init.normal_(block.norm2.weight, std=0.5)
    if model.palette:
        nn.init.normal_(model.palette.shift.weight, std=0.1)
    with torch.no_grad():
        for _ in range(3):
            model(photo(4, 32, 32))
    return model.eval()


def photo(*sides: int) -> torch.Tensor:
    """A random L (B, 1, H, W) of the sides (B, H, W)."""
    return torch.rand(sides[0], 1, *sides[1:]) * 2 - 1


@pytest.mark.parametrize(("depth", "count"), [(7, 41_825_538), (8, 54_410_498)])
def test_parameters(depth, count):
    with torch.device("meta"):  # no memory for the weights
        assert sum(parameter.numel() for parameter in UNet(64, depth).parameters()) == count


class Original(nn.Module):
    """The original network, written straight from torch's own layers; depth 5."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        a, b, c, d = width, 2 * width, 4 * width, 8 * width
        self.down = nn.ModuleList(self.block(*pair, nn.Conv2d) for pair in ((1, a), (a, b), (b, c), (c, d)))
        self.bottleneck = nn.Conv2d(d, d, 4, 2, 1)
        pairs = ((d, d), (2 * d, c), (2 * c, b), (2 * b, a))  # from the second on, the encoder's features too
        self.up = nn.ModuleList(self.block(*pair, nn.ConvTranspose2d) for pair in pairs)
        self.final = nn.ConvTranspose2d(2 * a, 2, 4, 2, 1)
        self.dropout = dropout

    @staticmethod
    def block(before: int, after: int, convolution: type[nn.Module]) -> nn.Module:
        return nn.ModuleDict({"conv": convolution(before, after, 4, 2, 1, bias=False), "norm": nn.BatchNorm2d(after)})

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
    networks = []
    for build in (lambda: Original(4, 0.3), lambda: UNet(4, 5, 0.3)):
        torch.manual_seed(4)
        networks.append(build())
    original, model = networks
    assert list(model.state_dict()) == list(original.state_dict()), "saved runs open, and nothing was added to them"
    L, answers = photo(3, 32, 64), []
    for network in networks:  # in training, with dropout, then in use, with the batch norms' averages
        torch.manual_seed(5)
        answers.append((network.train()(L), network.eval()(L)))
    assert torch.equal(answers[0][0], answers[1][0]) and torch.equal(answers[0][1], answers[1][1])
    assert not torch.equal(answers[0][0], answers[0][1])


def test_the_original_weights_start_the_same_with_all_options():
    weights = []
    for options in ({}, {"palette": 5, "residual_blocks": 2}):
        torch.manual_seed(4)
        weights.append(UNet(4, 5, 0.3, **options).state_dict())
    plain, more = weights
    assert all(torch.equal(more[name], plain[name]) for name in plain)
    assert {name.split(".")[0] for name in set(more) - set(plain)} == {"palette", "deeper"}


@pytest.mark.parametrize("options", OPTIONS)
def test_padding_repeats_the_edge_on_the_right_and_below(options):
    model, L = small(**options), photo(2, 1, 35)
    padded = torch.from_numpy(np.pad(L.numpy(), ((0, 0), (0, 0), (0, 15), (0, 13)), mode="edge"))
    torch.testing.assert_close(model(L), model(padded)[..., :1, :35])


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 32, 32), (1, 1, 1, 32, 32)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=rf"expected L of shape \(B, 1, H, W\), got \({', '.join(map(str, shape))}\)"):
        small()(torch.zeros(shape))


@pytest.mark.parametrize("options", OPTIONS)
def test_every_weight_learns_also_from_a_single_pixel_at_the_bottleneck(options):
    model = small(**options).train()
    ab = model(photo(2, 32, 32))
    (ab.square().sum() + ab[:, 0].sum()).backward()
    still = {name for name, weight in model.named_parameters() if weight.grad is None or weight.grad.abs().max() < 1e-6}
    # a softmax does not see what shifts all colors' fit alike; the spreads learn from the likelihood alone
    assert still <= {"palette.key.bias", "palette.weight.bias", "palette.spread.weight", "palette.spread.bias"}
    model(photo(1, 16, 16)).sum().backward()


def test_residual_block_starts_as_the_identity_and_is_that_of_the_paper():
    block, x = ResidualBlock(5), torch.rand(2, 5, 7, 6)
    assert torch.equal(block.eval()(x), x) and torch.equal(block.train()(x), x)
    nn.init.uniform_(block.norm2.weight, 0.5, 1.5), nn.init.uniform_(block.norm2.bias, -0.5, 0.5)
    convolved = F.conv2d(block.norm1(F.conv2d(x, block.conv1.weight, padding=1)).relu(), block.conv2.weight, padding=1)
    torch.testing.assert_close(block(x), (x + block.norm2(convolved)).relu())


@torch.no_grad()
def test_forward_with_residual_blocks_and_palette_by_hand():
    """Blocks sit behind each encoder block but the first two; the palette sees the three coarsest maps."""
    model = small(depth=5, palette=3, residual_blocks=2)
    # so that pixels choose one color each, and some sums leave [−1, 1]
    model.final.weight.mul_(10), model.palette.anchors.mul_(30), model.palette.pixel.weight.mul_(100)
    L = photo(2, 32, 64)
    a = model.down[0](L)
    b = model.down[1](a)
    c = model.deeper[0][1](model.deeper[0][0](model.down[2](b)))
    d = model.deeper[1][1](model.deeper[1][0](model.down[3](c)))
    maps = [F.relu(model.bottleneck(d))]
    for block, skip in zip(model.up, (d, c, b, a), strict=True):
        maps.append(torch.cat([block(maps[-1]), skip], dim=1))
    palette = model.palette(maps[:3], maps[-1])
    for vividness in (0.0, 0.7):
        mixture = [Image.fromarray(channel.numpy()) for channel in palette.paint(vividness).flatten(0, 1)]
        mixture = np.stack([channel.resize((64, 32), Image.Resampling.BILINEAR) for channel in mixture])
        total = torch.from_numpy(mixture).view(2, 2, 32, 64) + CORRECTION * torch.tanh(model.final(maps[-1]))
        assert total.abs().max() > 1
        ab, chosen = model.forward_with_palette(L, vividness)
        torch.testing.assert_close(ab, total.clamp(-1, 1), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model(L, vividness), ab)
        torch.testing.assert_close(chosen, palette)
    assert 0 < CORRECTION <= 0.1, "the palette's colors are those of the picture"
    ab, chosen = small().forward_with_palette(L, 0.9)
    assert chosen is None and torch.equal(ab, small()(L)), "without a palette, vividness changes nothing"


LITE = "tf_efficientnet_lite0"


def test_pretrained_encoder_sees_gray_as_a_color_picture(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model(LITE)
    weights = {f"another project's {name}": tensor for name, tensor in whole.state_dict().items()}
    torch.save(weights, tmp_path / "weights.pth")
    model = UNet(8, 5, palette=3, encoder=LITE)
    load_pretrained_encoder(model, tmp_path / "weights.pth")
    in_color = timm.create_model(LITE, features_only=True)
    in_color.load_state_dict({name: whole.state_dict()[name] for name in in_color.state_dict()})
    L = photo(2, 64, 96)
    with torch.inference_mode():
        maps, wanted = model.eval().encode(L), in_color.eval()(L.expand(-1, 3, -1, -1))
        assert model(L[..., :50, :70]).shape == (2, 2, 50, 70)
    assert [tuple(x.shape[2:]) for x in maps] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    for mine, theirs in zip(maps, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_pretrained_encoder_of_another_file_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights.pth does not hold the weights of timm's tf_efficientnet_lite0"):
        load_pretrained_encoder(UNet(4, 5, encoder=LITE), tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("name", "depth", "words"),
    [("no_such_net", 5, "no timm model"), (LITE, 6, r"strides \[2, 4, 8, 16, 32\]: expected depth 6")],
)
def test_encoder_that_does_not_fit(name, depth, words):
    with pytest.raises(ValueError, match=words):
        UNet(4, depth, encoder=name)


def test_a_network_of_our_own_does_not_import_timm():
    script = "import sys; from colorlib.model import UNet; UNet(4, 4); sys.exit('timm' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
