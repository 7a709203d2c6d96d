"""What training minimises."""

from torch import nn


class L1(nn.L1Loss):
    """Mean absolute error between predicted and true ab, both (B, 2, H, W) and scaled: one number.

    0.01 means 1.28 units of a* or b*. The loss prefers the median colour when several are possible, which is
    why plain L1 networks paint cautiously. Checked by hand in tests/test_losses.py.
    """
