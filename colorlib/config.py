"""Settings: one frozen, typed record that a run is built from, saved with and resumed by."""

import dataclasses
import json
import zlib
from dataclasses import dataclass
from typing import Any, Self


def setting(default: Any, help: str, low: float | None = None, high: float | None = None, **rules: Any) -> Any:
    """Declare a field of `Config` with its help text and its bounds.

    ``rules`` are ``choices``, the only values allowed; ``below`` and ``above``, bounds that are not allowed themselves;
    ``free``, whether a run that is continued may change the setting.
    """
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high} | rules)


NETWORK = ("width", "depth", "dropout", "palette", "residual_blocks", "encoder")


@dataclass(frozen=True)
class Config:
    """Everything that decides how a network is built, trained and used.

    The defaults are the original recipe (`SEED`). Each field is also an option of ``python -m colorlib.train``:
    ``image_size`` is ``--image-size``. A `ValueError` names a setting that has another type or lies outside its bounds.
    """

    # the network
    width: int = setting(64, "channels of the first block", 1, 256)
    depth: int = setting(7, "how often the picture is halved", 4, 10)
    dropout: float = setting(0.5, "share of features dropped in the first three decoder blocks", 0, below=1)
    palette: int = setting(0, "colors that the network chooses for a photo and mixes; 0: no palette", 0, 256)
    residual_blocks: int = setting(0, "residual blocks behind each encoder block but the first two", 0, 16)
    encoder: str = setting("", "pretrained timm model in place of the encoder; empty: the U-Net's own")
    # the photos
    image_size: int = setting(256, "side of the network's input, px", 16, 1024)
    photo_size: int = setting(256, "side at which photos are kept for random crops, px", 16, 4096)
    val_fraction: float = setting(0.05, "share of the photos that chooses the best epoch", 0, below=1)
    test_fraction: float = setting(0.05, "share never trained on (of COCO val2017: its first 100)", 0, below=1)
    # augmentation of the training photos; the defaults switch each part off
    min_crop: float = setting(1.0, "smallest share of a photo's area that a random crop keeps", above=0, high=1)
    flip: bool = setting(False, "mirror every second photo")
    rotate: float = setting(0.0, "largest angle by which a photo is turned, degrees", 0, 45)
    contrast: float = setting(0.0, "largest relative change of the contrast of L", 0, below=1)
    gamma: float = setting(0.0, "largest change of the logarithm of the gamma of L", 0, 2)
    saturation: float = setting(0.0, "largest relative change of ab", 0, below=1)
    most_per_folder: int = setting(0, "photos that an epoch takes of a folder, at most; 0: all", 0)
    crops_per_photo: int = setting(1, "how often an epoch uses each photo", 1)
    small_size: int = setting(64, "side of the training photos in the first epochs, px", 16, 1024)
    small_epochs: int = setting(0, "how many epochs use small_size instead of image_size: quicker", 0, free=True)
    # the training
    start_from: str = setting("", "run whose weights the training starts from; empty: random ones")
    encoder_weights: str = setting("", "file of pretrained weights; empty: timm downloads them", free=True)
    encoder_rate: float = setting(0.0, "learning rate of the encoder, relative to the rest; 0: frozen", 0, 1)
    batch_size: int = setting(16, "photos of one step, of all processes together", 1)
    loss: str = setting("l1", "distance between predicted and true ab", choices=("l1", "huber"))
    palette_likelihood: float = setting(0.0, "weight of the palette's likelihood in the loss", 0)
    perceptual: float = setting(0.0, "weight of the difference in VGG16's features in the loss", 0)
    learning_rate: float = setting(2e-4, "step size of Adam", above=0)
    weight_decay: float = setting(0.0, "weight decay of AdamW; 0: Adam", 0)
    warmup: float = setting(0.0, "share of the training in which the learning rate rises from 0", 0, below=1)
    schedule: str = setting(
        "constant", "of the learning rate; cosine falls to 0, trapezoid does so in the last quarter",
        choices=("constant", "cosine", "trapezoid"),
    )  # fmt: skip
    ema: float = setting(0.0, "share that the moving average of the weights keeps a step; 0: none", 0, below=1)
    epochs: int = setting(50, "passes over the training photos", 1, free=True)
    precision: str = setting(
        "auto", "arithmetic; auto: what the device is fast at", choices=("auto", "float32", "bfloat16", "float16")
    )
    compile: bool = setting(False, "let torch.compile fuse the network's operations", free=True)
    num_workers: int = setting(2, "processes that decode photos the first time; 0: none beside this", 0, free=True)
    checkpoint_every: int = setting(0, "write last.pt every n steps too; 0: after each epoch only", 0, free=True)
    keep_every: int = setting(0, "keep the weights of every n-th epoch; 0: only best and last", 0, free=True)
    samples: int = setting(8, "validation photos in the picture that each epoch saves", 1, free=True)
    seed: int = setting(0, "start of everything random", 0)
    # in use
    render_size: int = setting(0, "side at which the network sees a photo, px; 0: image_size", 0, 1024, free=True)
    flip_tta: bool = setting(False, "average the colors of a photo and of its mirror image", free=True)
    vividness: float = setting(0.0, "from the mean (0) to the likeliest (1) of a pixel's colors", 0, 1, free=True)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, rule = getattr(self, field.name), field.metadata
            if field.type is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, field.name, value)
            if type(value) is not field.type:
                raise ValueError(f"{field.name} must be of type {field.type.__name__}, got {value!r}")
            bounds = {
                f"one of {', '.join(rule.get('choices', ()))}": "choices" not in rule or value in rule["choices"],
                f"{rule['low']} or more": rule["low"] is None or value >= rule["low"],
                f"{rule['high']} or less": rule["high"] is None or value <= rule["high"],
                f"above {rule.get('above')}": "above" not in rule or value > rule["above"],
                f"below {rule.get('below')}": "below" not in rule or value < rule["below"],
            }
            if broken := [bound for bound, holds in bounds.items() if not holds]:
                raise ValueError(f"{field.name} must be {broken[0]} ({rule['help']}), got {value!r}")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("val_fraction and test_fraction leave no photos to train on: lower one of them")
        if self.palette == 1:
            raise ValueError("palette must be 0 or at least 2 (one color cannot be mixed), got 1")
        if 0 < self.render_size < 16:
            raise ValueError(f"render_size must be 0 (image_size) or 16 to 1024, got {self.render_size}")
        if self.encoder and self.residual_blocks:
            raise ValueError("residual_blocks are part of the U-Net's own encoder: set them to 0, or encoder to empty")
        if self.palette_likelihood and not self.palette:
            raise ValueError("palette_likelihood needs a palette: set palette, such as 32, or palette_likelihood to 0")

    @property
    def network(self) -> dict[str, Any]:
        """The arguments of `model.UNet`."""
        return {name: getattr(self, name) for name in NETWORK}

    @property
    def view_seed(self) -> int:
        """Start of the random views and their order: a training from a run's weights sees others than that run did."""
        return self.seed + zlib.crc32(self.start_from.encode())

    @property
    def augments(self) -> bool:
        """Whether any part of the augmentation is switched on."""
        return self.flip or self.min_crop < 1 or max(self.rotate, self.contrast, self.gamma, self.saturation) > 0

    @property
    def side_in_use(self) -> int:
        """Side of the square in which the network sees a photo that it colors, px."""
        return self.render_size or self.image_size

    def size_in(self, epoch: int) -> int:
        """Side of the training photos in an epoch, counted from 0, px."""
        return self.small_size if epoch < self.small_epochs else self.image_size

    def replace(self, **changes: Any) -> Self:
        """Copy the settings with some changed; a `ValueError` names one that is unknown or wrong."""
        names = [field.name for field in dataclasses.fields(self)]
        if unknown := sorted(changes.keys() - set(names)):
            raise ValueError(f"unknown setting {', '.join(unknown)}; the settings are {', '.join(names)}")
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Write the settings as JSON text, one a line."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote: missing settings keep their default, wrong ones raise `ValueError`."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"expected a JSON object with settings, got {text[:40]!r}")
        return cls().replace(**values)


SEED = Config()
"""The original recipe: 41.8 M parameters, 256×256, L1, Adam 2e-4, batch 16, 50 epochs, no augmentation."""

TINY = Config(
    width=16, depth=6, dropout=0.2, image_size=64, photo_size=96, min_crop=0.3, flip=True,
    crops_per_photo=32, val_fraction=0.15, test_fraction=0.25, batch_size=8, learning_rate=1e-3,
    epochs=30, samples=4, seed=1,
)  # fmt: skip
"""Minutes on a laptop, on the few sample photos: to see every step work, not to get good colors."""

RELEASE = Config(
    width=32, depth=5, dropout=0.1, palette=32, residual_blocks=2, image_size=96, photo_size=128, min_crop=0.4,
    flip=True, contrast=0.2, gamma=0.2, small_epochs=28, val_fraction=0.02, test_fraction=0.0, batch_size=32,
    loss="huber", palette_likelihood=0.02, learning_rate=1e-3, weight_decay=0.01, warmup=0.01, schedule="trapezoid",
    ema=0.999, epochs=62, flip_tta=True, vividness=0.25,
)  # fmt: skip
"""Half the width, a palette, small pictures first: what a CPU core can train."""

PRESETS = {"tiny": TINY, "seed": SEED, "release": RELEASE}
