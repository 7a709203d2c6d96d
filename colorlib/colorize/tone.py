"""The tones of a faded print, before it is colored."""

import numpy as np
from PIL import Image
from skimage.exposure import rescale_intensity

from colorlib.photo import Photo, is_deep, read_photo

ENDS = (0.5, 99.5)  # percentiles that become black and white


def restore_tone(photo: Photo) -> Image.Image | np.ndarray:
    """Stretch the tones of a faded or tinted photo from black to white.

    Returns a gray picture of mode "RGB", of its size; for 16-bit gray from `read_deep_photo`, a uint16 array (H, W).
    """
    gray = photo if is_deep(photo) else np.asarray(read_photo(photo).convert("L"))
    low, high = np.percentile(gray, ENDS)
    stretched = rescale_intensity(gray, (low, max(high, low + 1)), (0, np.iinfo(gray.dtype).max))
    stretched = stretched.round().astype(gray.dtype)
    return stretched if is_deep(photo) else Image.fromarray(stretched).convert("RGB")
