"""Clips: each frame colored like a photo, its colors joined to those of the frames before it.

It needs PyAV, whose wheels bring FFmpeg: ``pip install '.[video]'``.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise, starmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.registration import optical_flow_ilk
from torch import Tensor
from tqdm import tqdm

from colorlib.colorize.colorizer import Colorizer, add_color, restore_tone
from colorlib.colorize.export import NOTE, SaveError
from colorlib.photo import PhotoError, count_pictures
from colorlib.system import replacing

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")  # and an animated .gif
SOUNDS = ("aac", "mp3", "opus", "flac", "alac", "ac3", "eac3")  # copied into an MP4 as they are; others become AAC
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# of x264: hardly a loss that one sees, frames in their order, each as long as it was
ENCODER = {"crf": "18", "preset": "veryfast", "bf": "0", "flags": "+frame_duration"}
BT709 = 1  # FFmpeg's number of the colors, the curve and the matrix of HDTV
TRUST = 0.1  # difference in scaled L, 5 units of L*, at which a moved color counts e⁻¹ of its share
CUT = 0.5  # mean trust below which a frame begins a new scene


def is_video(path: str | os.PathLike) -> bool:
    """Whether a file is taken for a clip: by its suffix, or as a GIF of several pictures."""
    suffix = Path(path).suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix == ".gif" and count_pictures(path) > 1)


class SteadyColors:
    """Keeps the small colors of a clip from flickering: call it with the frames' L and ab, in their order.

    The colors of the frames before are moved along the optical flow (iterative Lucas-Kanade; Le Besnerais and
    Champagnat 2005, doi 10.1109/ICIP.2005.1529706) and mixed with the network's new ones. Their share is `steadiness`,
    less where the moved lightness is not the frame's: something came into view. A frame that is unlike begins anew.
    """

    def __init__(self, steadiness: float = 0.85):
        if not 0 <= steadiness < 1:
            raise ValueError(f"steadiness must be at least 0 (each frame alone) and less than 1, got {steadiness}")
        self.steadiness = steadiness
        self.last: Tensor | None = None  # L and ab of the frame before, (1, 3, h, w)

    @torch.no_grad()
    def __call__(self, L: Tensor, ab: Tensor) -> Tensor:
        """Steady ab (1, 2, h, w) of the next frame, given its scaled L (1, 1, h, w) and the network's scaled ab."""
        if self.last is not None and self.steadiness:
            flow = optical_flow_ilk(L[0, 0].numpy(), self.last[0, 0].numpy(), radius=7, num_warp=3)  # rows, columns
            here = F.affine_grid(torch.eye(2, 3)[None], L.shape, align_corners=False)  # (1, h, w, 2): x, y in [−1, 1]
            there = here + 2 * torch.from_numpy(flow[::-1].copy()).permute(1, 2, 0) / torch.tensor(L.shape[:1:-1])
            moved = F.grid_sample(self.last, there, mode="bicubic", padding_mode="border", align_corners=False)
            trust = torch.exp(-((F.avg_pool2d((L - moved[:, :1]).abs(), 3, 1, 1) / TRUST) ** 2))
            if trust.mean() > CUT:
                ab = ab.lerp(moved[:, 1:].clamp(-1, 1), self.steadiness * trust)
        self.last = torch.cat([L, ab], dim=1)
        return ab


def colorize_video(
    src: str | os.PathLike, dst: str | os.PathLike, colorizer: Colorizer | None = None, *, steadiness: float = 0.85,
    saturation: float = 1.0, restore: bool = False, progress: bool = True,
    on_frame: Callable[[int, int], None] | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Color a clip into an MP4 file (H.264), whole or not at all, and return its path.

    Size, times and the first sound stay. H.264 needs even sides: an odd one loses a pixel. It is streamed: a long film
    takes no more memory than a short one. Damaged frames are left out, with a warning that counts them.

    Args:
        src: MP4, MOV, MKV, WebM, AVI or an animated GIF.
        dst: Path of the new file, which ends in .mp4; an earlier one is replaced.
        colorizer: None: that of the release.
        steadiness: Share of the colors of the frames before, at least 0 (each frame alone) and less than 1.
        saturation: Factor on a* and b*, 0 for gray.
        restore: Stretch the tones of each frame first, see `restore_tone`.
        progress: Show a bar.
        on_frame: Called after each frame with the number of frames done, and of all (0 if not known).
        **options: As for `Colorizer.predict`, but no hints: they are points of one picture.

    Raises:
        ModuleNotFoundError: If PyAV is missing.
        PhotoError: If the clip is broken, or the new file cannot be written; `FileNotFoundError` if there is no clip.
        SaveError: If `dst` has another suffix.
    """
    src, dst = Path(src), Path(dst)
    if dst.suffix.lower() != ".mp4":
        raise SaveError(f"{dst.name}: clips are saved as .mp4")
    if options.get("hints"):
        raise ValueError("hints are points of one picture, and a clip moves: color clips without them")
    if not src.is_file():
        raise FileNotFoundError(f"there is no clip {str(src)!r}: check the path")
    try:
        import av
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("clips need PyAV: pip install '.[video]' in colorlib's folder") from missing
    colorizer, steady = colorizer or Colorizer.from_run(), SteadyColors(steadiness)

    def look(frame: Any, image: Image.Image) -> tuple[Any, Image.Image, Tensor]:
        image = restore_tone(image) if restore else image
        ab = colorizer.predict(image, **options)
        L = colorizer.network_input(image, ab.shape[-1])
        return frame, image, steady(L, ab.cpu()).to(ab.device)

    def paint(frame: Any, image: Image.Image, ab: Tensor) -> Any:
        painted = av.VideoFrame.from_ndarray(add_color(image, ab, saturation), format="rgb24")
        painted = painted.reformat(format="yuv420p", dst_colorspace=BT709)
        painted.pts, painted.time_base, painted.duration = frame.pts, frame.time_base, frame.duration
        return painted

    try:
        with av.open(src) as film:  # only a frame tells how it lies
            first = next(film.decode(video=0))
        if min(first.width, first.height) < 2:
            raise PhotoError(f"{src.name}: it is {first.width}×{first.height} px, and H.264 needs 2×2 at least")
        with av.open(src) as film, replacing(dst) as temporary, av.open(temporary, "w", format="mp4") as out:
            moving = film.streams.video[0]
            out.metadata["comment"] = NOTE
            shown = _add_picture(out, moving, first)
            pass_on = {sound: _add_sound(out, sound) for sound in film.streams.audio[:1]}
            painted = _one_ahead(paint, starmap(look, _frames(film, first, pass_on)))
            total = moving.frames or round((film.duration or 0) / av.time_base * (moving.average_rate or 0))
            bar = tqdm(painted, total=total or None, desc=src.name, unit="frame", disable=not progress)
            last = None
            for done, frame in enumerate(bar, start=1):
                # MP4 wants times that rise: those of H.264 in an AVI may not
                last = frame.pts = frame.pts or 0 if last is None else max(frame.pts or 0, last + 1)
                out.mux(shown.encode(frame))
                if on_frame:
                    on_frame(done, total)
            out.mux(shown.encode())
    except (av.FFmpegError, LookupError, StopIteration, UnicodeError, AttributeError) as error:  # what PyAV raises
        raise PhotoError(f"{src.name}: {getattr(error, 'strerror', None) or 'broken, or no clip'}") from error
    return dst


def _frames(film: Any, first: Any, pass_on: dict[Any, Callable[[Any], None]]) -> Iterator[tuple[Any, Image.Image]]:
    """Each frame, and as an upright picture; the packets of sound that lie between them are passed on."""
    from av.error import InvalidDataError

    moving, damaged = film.streams.video[0], 0
    moving.thread_type = "AUTO"
    for packet in film.demux([moving, *pass_on]):
        try:
            if packet.stream is not moving:
                pass_on[packet.stream](packet)
            for frame in packet.decode() if packet.stream is moving else ():
                yield frame, _upright(frame, first)
        except InvalidDataError:
            damaged += 1
    if damaged:
        warnings.warn(f"{Path(film.name).name}: {damaged} damaged packets were left out", stacklevel=2)


def _upright(frame: Any, first: Any) -> Image.Image:
    """A frame as a picture, of the size and turned as the first one, but for what makes a side odd."""
    rgb = frame.to_ndarray(format="rgb24", width=first.width, height=first.height)
    rgb = np.rot90(rgb, round(first.rotation / 90))  # as phones note it: to the left
    return Image.fromarray(rgb[: len(rgb) // 2 * 2, : rgb.shape[1] // 2 * 2])


def _add_picture(out: Any, moving: Any, first: Any) -> Any:
    """The H.264 stream for the colored frames of the stream `moving`, of which `first` is the first."""
    shown = out.add_stream("libx264", moving.average_rate or 25, ENCODER)
    shown.width, shown.height = _upright(first, first).size
    shown.pix_fmt, context = "yuv420p", shown.codec_context
    aspect = moving.sample_aspect_ratio or 1  # of a pixel
    context.time_base = moving.time_base
    context.sample_aspect_ratio = 1 / aspect if round(first.rotation / 90) % 2 else aspect
    context.colorspace = context.color_primaries = context.color_trc = BT709
    return shown


def _add_sound(out: Any, sound: Any) -> Callable[[Any], None]:
    """Make a function that passes packets of a clip's sound on to the new one: as they are, or as AAC."""
    name = sound.codec_context.codec.canonical_name
    is_copied = name in SOUNDS and (name != "mp3" or sound.rate >= 16000)  # slower ones do not go into an MP4
    rate = sound.rate if sound.rate in AAC_RATES else 48000
    layout = "mono" if sound.channels == 1 else "stereo"
    heard = out.add_stream_from_template(sound) if is_copied else out.add_stream("aac", rate, layout=layout)

    def pass_on(packet: Any) -> None:
        if is_copied and packet.dts is not None:
            packet.stream = heard
            out.mux(packet)
        elif not is_copied:
            for frame in [*packet.decode(), *([] if packet.size else [None])]:  # the last packet is an empty one
                out.mux(heard.encode(frame))

    return pass_on


def _one_ahead(function: Callable, items: Iterable[tuple]) -> Iterator[Any]:
    """Call a function with each item, in a thread, while the next item is made here; yield what it returns."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        calls = (thread.submit(function, *item) for item in items)
        for call, _ in pairwise(chain(calls, [None])):  # the next one begins before the result of this one is awaited
            yield call.result()
