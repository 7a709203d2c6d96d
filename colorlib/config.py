"""Settings: one frozen, typed record that a run is built from, saved with and resumed by."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Self

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
SCHEDULES = ("constant", "cosine")
LOSSES = ("l1", "huber")


@dataclass(frozen=True)
class Config:
    """Everything that decides how a network is built and trained.

    The defaults are the original recipe (`SEED`). Each field is also an option of
    ``python -m colorlib.train``: ``image_size`` is ``--image-size``. Values out of range raise
    `ValueError`. Checked by tests/test_config.py.
    """

    # the network
    width: int = 64  # channels of the first block
    depth: int = 7  # how often the picture is halved
    dropout: float = 0.5  # share of features dropped in the first three decoder blocks
    palette: int = 0  # colours that the network chooses for each photo and mixes; 0: no palette
    residual: int = 0  # residual blocks behind each encoder block but the first two
    # the photos
    image_size: int = 256  # side of the network's input, px
    photo_size: int = 256  # side at which photos are kept for random crops, px
    val_fraction: float = 0.05  # share of the photos that chooses the best epoch
    test_fraction: float = 0.05  # share that is never trained on (COCO val2017: always its first 100)
    # augmentation of the training photos; these values switch each part off
    min_crop: float = 1.0  # smallest share of the photo's area that a random crop keeps
    flip: bool = False  # mirror every second photo
    rotate: float = 0.0  # largest angle, degrees
    contrast: float = 0.0  # largest relative change of the contrast of L
    gamma: float = 0.0  # largest change of the logarithm of the gamma of L
    saturation: float = 0.0  # largest relative change of ab
    crops_per_photo: int = 1  # how often an epoch uses each photo
    small_size: int = 0  # side of the training photos in the first epochs, px: quicker
    small_epochs: int = 0  # how many epochs these are
    # the training
    batch_size: int = 16  # photos of one step, of all processes together
    loss: str = "l1"  # one of LOSSES
    perceptual: float = 0.0  # weight of the difference in VGG16's features, added to the loss
    learning_rate: float = 2e-4  # of Adam
    weight_decay: float = 0.0  # of AdamW; 0: Adam
    warmup: float = 0.0  # share of the training in which the learning rate rises from 0
    schedule: str = "constant"  # of the learning rate; "cosine" ends at 0
    ema: float = 0.0  # share of the running average of the weights that each step keeps; 0: no average
    epochs: int = 50
    precision: str = "auto"  # of the network's arithmetic: what the device is fast at, or one of PRECISIONS
    compile: bool = False  # let torch.compile fuse the network's operations
    num_workers: int = 2  # processes that read the photo files, the first time; 0: the training process itself
    checkpoint_every: int = 0  # write last.pt every n-th step too; 0: after each epoch only
    keep_every: int = 0  # keep the weights of every n-th epoch; 0: only best and last
    samples: int = 8  # validation photos in the picture that each epoch saves
    seed: int = 0
    # in use
    test_flips: bool = False  # average the colours of the photo and of its mirror image

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not field.type:
                raise ValueError(f"{field.name} must be of type {field.type.__name__}, got {value!r}")
        checks = {
            "width, batch_size, epochs, crops_per_photo and samples must be at least 1": min(
                self.width, self.batch_size, self.epochs, self.crops_per_photo, self.samples
            )
            >= 1,
            "depth must be between 4 and 10": 4 <= self.depth <= 10,
            "image_size and photo_size must be at least 16": min(self.image_size, self.photo_size) >= 16,
            "dropout must be in [0, 1)": 0 <= self.dropout < 1,
            "val_fraction and test_fraction must be in [0, 1) and leave photos to train on": (
                self.val_fraction >= 0 and self.test_fraction >= 0 and self.val_fraction + self.test_fraction < 1
            ),
            "min_crop must be in (0, 1]": 0 < self.min_crop <= 1,
            "rotate must be between 0 and 45 degrees": 0 <= self.rotate <= 45,
            "contrast and saturation must be in [0, 1)": 0 <= self.contrast < 1 and 0 <= self.saturation < 1,
            "gamma must be in [0, 2]": 0 <= self.gamma <= 2,
            "palette must be 0 or at least 2": self.palette == 0 or self.palette >= 2,
            "small_epochs needs a small_size of at least 16": self.small_epochs == 0 or self.small_size >= 16,
            "learning_rate must be above 0": self.learning_rate > 0,
            "perceptual and weight_decay must not be negative": min(self.perceptual, self.weight_decay) >= 0,
            "warmup and ema must be in [0, 1)": 0 <= self.warmup < 1 and 0 <= self.ema < 1,
            "residual, small_size and small_epochs must not be negative": min(
                self.residual, self.small_size, self.small_epochs
            )
            >= 0,
            "num_workers, checkpoint_every, keep_every and seed must not be negative": min(
                self.num_workers, self.checkpoint_every, self.keep_every, self.seed
            )
            >= 0,
            f"precision must be one of {', '.join(PRECISIONS)}": self.precision in PRECISIONS,
            f"loss must be one of {', '.join(LOSSES)}": self.loss in LOSSES,
            f"schedule must be one of {', '.join(SCHEDULES)}": self.schedule in SCHEDULES,
        }
        for rule, holds in checks.items():
            if not holds:
                raise ValueError(f"{rule}; got {self}")

    @property
    def network(self) -> tuple[int, int, float, int, int]:
        """The arguments of `model.UNet`."""
        return self.width, self.depth, self.dropout, self.palette, self.residual

    @property
    def augments(self) -> bool:
        """Whether any part of the augmentation is switched on."""
        return self.flip or self.min_crop < 1 or max(self.rotate, self.contrast, self.gamma, self.saturation) > 0

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed; an unknown name raises `ValueError`."""
        unknown = sorted(set(changes) - {field.name for field in dataclasses.fields(self)})
        if unknown:
            known = ", ".join(field.name for field in dataclasses.fields(self))
            raise ValueError(f"unknown setting {', '.join(unknown)}; the settings are {known}")
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """The settings as JSON text, one a line."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings from JSON text; missing ones keep their default, unknown ones raise `ValueError`."""
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
"""Minutes on a laptop, on the few sample photos: to see every step work, not to get good colours."""

RELEASE = Config(
    width=32, depth=5, dropout=0.1, palette=32, residual=2, image_size=96, photo_size=128, min_crop=0.4, flip=True,
    contrast=0.2, gamma=0.2, small_size=64, small_epochs=23, val_fraction=0.02, test_fraction=0.02, batch_size=32,
    loss="huber", learning_rate=1e-3, weight_decay=0.01, warmup=0.05, schedule="cosine", ema=0.998, epochs=32,
    test_flips=True,
)  # fmt: skip
"""Half the width, a palette, small pictures first: what a CPU core can train in less than two hours."""

PRESETS = {"tiny": TINY, "seed": SEED, "release": RELEASE}
