"""colorlib: learn, train, judge and use automatic image colorization, one short module a step.

The way of the data: photo files → `data` → `color` (CIE Lab, scaled) → `model` → `color` → picture.
Import what you need from its module, for example ``from colorlib.model import UNet``.
"""

__version__ = "0.1.0"
