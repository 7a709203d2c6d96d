"""A photo in, a colored photo out."""

from colorlib.colorize.colorizer import Colorizer, GuidedUpsampler, add_color, restore_tone
from colorlib.colorize.export import SaveError, colorized_name, save_picture
from colorlib.colorize.folder import FolderResult, colorize_folder, contact_sheet
from colorlib.colorize.hints import Hint, color_ab, palette_strip, recolor_palette, spread_hints, swatch_colors
from colorlib.colorize.transfer import transfer_colors
from colorlib.colorize.video import VIDEO_SUFFIXES, SteadyColors, colorize_video, is_video
