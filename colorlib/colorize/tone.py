"""The tones of a faded print, before it is colored."""

import numpy as np
from PIL import Image
from skimage.exposure import rescale_intensity

from colorlib.photo import Photo, read_photo

ENDS = (0.5, 99.5)  # percentiles that become black and white


def restore_tone(photo: Photo) -> Image.Image:
    """Stretch the tones of a faded or tinted photo from black to white: a gray picture of mode "RGB", of its size."""
    gray = np.asarray(read_photo(photo).convert("L"))
    low, high = np.percentile(gray, ENDS)
    stretched = rescale_intensity(gray, (low, max(high, low + 1)), (0, 255))
    return Image.fromarray(stretched.round().astype(np.uint8)).convert("RGB")
