"""Clips: each frame colored like a photo, its colors joined to those of the frames before it.

It needs PyAV, whose wheels bring FFmpeg: ``pip install av``, or ``pip install '.[video]'``.
"""

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.registration import optical_flow_ilk
from torch import Tensor
from tqdm import tqdm

from colorlib.colorize.colorizer import TONE_ENDS, Colorizer, add_color, restore_tone, tone_ends
from colorlib.colorize.export import NOTE, SaveError
from colorlib.photo import PhotoError, count_pictures
from colorlib.system import replacing

# Of clips, beside an animated .gif. FFmpeg knows more, but those are no clips of cameras or of the web;
# a test asks PyAV. They are written down so that nobody waits for PyAV who has photos alone.
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob",
    ".ts", ".m2t", ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".ogv",
)  # fmt: skip
TEXT_SUFFIXES = (".ts", ".mts")  # of TypeScript, too
SOUNDS = ("aac", "mp3", "opus", "flac", "alac", "ac3", "eac3")  # copied into an MP4 as they are; others become AAC
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# of x264: hardly a loss that one sees, frames in their order, each as long as it was
ENCODER = {"crf": "18", "preset": "veryfast", "bf": "0", "flags": "+frame_duration"}
BT709 = 1  # FFmpeg's number of the colors, the curve and the matrix of HDTV
HDR = (16, 18)  # FFmpeg's numbers of the curves PQ and HLG
TRUST = 0.1  # difference in scaled L, 5 units of L*, at which a moved color counts e⁻¹ of its share
CUT = 0.5  # mean trust below which a frame begins a new scene
SCENE_SIZE = 64  # side of the square in which frames are compared when tones are restored, px
# seconds, and share of the frames, by which a clip may differ from what its file says without a word:
# sounds end later than pictures, phones cut something away
OFF, MISSING = 0.5, 0.1


def is_video(path: str | os.PathLike) -> bool:
    """Whether a file is taken for a clip: by its suffix, or as a GIF of several pictures.

    TypeScript shares suffixes with clips, but text has no zero bytes.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".gif":
        return count_pictures(path) > 1
    if suffix in TEXT_SUFFIXES:
        with contextlib.suppress(OSError), open(path, "rb") as file:  # who opens it says why not
            return b"\0" in file.read(8192)
    return suffix in VIDEO_SUFFIXES


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
        self.is_new_scene = True  # whether the frame before began a scene

    @torch.no_grad()
    def __call__(self, L: Tensor, ab: Tensor) -> Tensor:
        """Steady ab (1, 2, h, w) of the next frame, given its scaled L (1, 1, h, w) and the network's scaled ab."""
        self.is_new_scene = True
        if self.last is not None and self.steadiness:
            flow = optical_flow_ilk(L[0, 0].numpy(), self.last[0, 0].numpy(), radius=7, num_warp=3)  # rows, columns
            here = F.affine_grid(torch.eye(2, 3)[None], L.shape, align_corners=False)  # (1, h, w, 2): x, y in [−1, 1]
            there = here + 2 * torch.from_numpy(flow[::-1].copy()).permute(1, 2, 0) / torch.tensor(L.shape[:1:-1])
            moved = F.grid_sample(self.last, there, mode="bicubic", padding_mode="border", align_corners=False)
            trust = torch.exp(-((F.avg_pool2d((L - moved[:, :1]).abs(), 3, 1, 1) / TRUST) ** 2))
            if trust.mean() > CUT:
                self.is_new_scene = False
                ab = ab.lerp(moved[:, 1:].clamp(-1, 1), self.steadiness * trust)
        self.last = torch.cat([L, ab], dim=1)
        return ab


def colorize_video(
    src: str | os.PathLike, dst: str | os.PathLike, colorizer: Colorizer | None = None, *, steadiness: float = 0.85,
    saturation: float = 1.0, restore: bool = False, progress: bool = True,
    on_frame: Callable[[int, int], None] | None = None, on_note: Callable[[str], Any] = warnings.warn, **options: Any,
) -> Path:  # fmt: skip
    """Color a clip into an MP4 file (H.264), whole or not at all, and return its path.

    Size, times, sounds, title, date and languages stay; the clip begins at time 0. H.264 needs even sides: an odd one
    loses a pixel. It is streamed: a long film takes no more memory than a short one. Damaged frames are left out.

    Args:
        src: A file with a suffix of `VIDEO_SUFFIXES`, or an animated GIF.
        dst: Path of the new file, which ends in .mp4; an earlier one is replaced.
        colorizer: None: that of the release.
        steadiness: Share of the colors of the frames before, at least 0 (each frame alone) and less than 1.
        saturation: Factor on a* and b*, 0 for gray.
        restore: Stretch the tones first, those of a scene alike, see `restore_tone`. The clip is read twice.
        progress: Show a bar.
        on_frame: Called after each frame with the number of frames done, and of all (0 if not known). What it raises
            ends the coloring, and reaches the caller as it is.
        on_note: Called at the end with each sentence on what is lost or looks wrong; by default, a warning.
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
        raise ModuleNotFoundError("clips need PyAV: pip install av") from missing
    colorizer, steady = colorizer or Colorizer.from_run(), SteadyColors(steadiness)
    faults: Counter[str] = Counter()

    def upright(frame: Any) -> Image.Image:
        with _in_words(src.name):
            return _upright(frame, first)

    def look(frame: Any, ends: tuple[float, float] | None) -> tuple[Any, Image.Image, Tensor]:
        faults["interlaced"] += frame.interlaced_frame
        image = restore_tone(upright(frame), ends) if restore else upright(frame)
        ab = colorizer.predict(image, **options)
        L = colorizer.network_input(image, ab.shape[-1])
        return frame, image, steady(L, ab.cpu()).to(ab.device)

    def paint(frame: Any, image: Image.Image, ab: Tensor) -> Any:
        colored = add_color(image, ab, saturation)
        with _in_words(src.name):
            painted = av.VideoFrame.from_ndarray(colored, format="rgb24")
            painted = painted.reformat(format="yuv420p", dst_colorspace=BT709)
        painted.pts, painted.time_base, painted.duration = frame.pts, frame.time_base, frame.duration
        return painted

    with _open(src) as film:  # only a frame tells how it lies
        frames = _decode(film, {}, Counter())
        if (first := next(frames, None)) is None:
            raise PhotoError(f"{src.name}: broken, or no clip: none of its frames can be decoded")
        if min(first.width, first.height) < 2:
            size = f"{first.width}×{first.height} px"
            raise PhotoError(f"{src.name}: it is {size}, and H.264 needs 2×2 at least")
        scenes = [None]
        if restore:
            seen = tqdm(chain([first], frames), f"{src.name}: tones", unit="frame", disable=not progress)
            scenes = _scene_ends(map(upright, seen), colorizer)
    with _open(src) as film, replacing(dst) as temporary, _create(temporary, src.name) as out:
        moving = _moving_picture(film)
        out.metadata.update(_texts(film, moving))
        with _in_words(src.name):
            shown = _add_picture(out, moving, first)
            sounds = [sound for sound in film.streams.audio if sound.codec_context]
            pass_on = {sound: _add_sound(out, sound) for sound in sounds}
            out.start_encoding()  # if it fails later, FFmpeg crashes at the next packet
        frames = _decode(film, pass_on, faults, out)
        ends = chain(scenes, repeat(scenes[-1]))
        painted = _one_ahead(paint, map(look, frames, ends))
        total = moving.frames or round((film.duration or 0) / av.time_base * (moving.average_rate or 0))
        bar = tqdm(painted, total=total or None, desc=src.name, unit="frame", disable=not progress)
        # how long a frame is shown if nothing tells, in units of its times
        usual = max(1, round(1 / (moving.time_base * (moving.average_rate or 25))))
        last, duration = -usual, usual
        for done, frame in enumerate(bar, start=1):
            frame.duration = duration = frame.duration or usual
            # MP4 wants times that rise: those of H.264 in an AVI may not
            last = frame.pts = last + usual if frame.pts is None else max(frame.pts, last + 1)
            with _in_words(src.name):
                out.mux(shown.encode(frame))
            if on_frame:
                on_frame(done, total)
        with _in_words(src.name):
            out.mux(shown.encode())
        notes = _notes(film, moving, faults, float((last + duration) * moving.time_base))
    for note in notes:
        on_note(f"{src.name}: {note}")
    return dst


@contextlib.contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Make what PyAV raises in a `with` block a `PhotoError`; other errors stay what they are."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise PhotoError(f"{name}: {error.strerror or 'broken, or no clip'}") from error


def _open(src: Path) -> Any:
    """Open a clip to be read; the absolute path, or FFmpeg takes what precedes a colon for a protocol."""
    import av

    with _in_words(src.name):
        return av.open(src.absolute(), metadata_errors="replace")


@contextlib.contextmanager
def _create(path: Path, name: str) -> Iterator[Any]:
    """Open a new MP4 file for a `with` block; errors of it, also those of its end, tell the name."""
    import av

    with _in_words(name):
        out = av.open(path.absolute(), "w", format="mp4")
    try:
        yield out
    except BaseException:
        with contextlib.suppress(av.FFmpegError):  # the first error counts
            out.close()
        raise
    with _in_words(name):
        out.close()


def _moving_picture(film: Any) -> Any:
    """The stream that moves: a cover picture may come before it."""
    for stream in film.streams.video:
        if stream.codec_context and not _is_cover(stream):
            return stream
    raise PhotoError(f"{Path(film.name).name}: broken, or no clip: nothing in it moves that can be decoded")


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _decode(
    film: Any, pass_on: dict[Any, Callable[[Any], list[Any]]], faults: Counter[str], out: Any = None
) -> Iterator[Any]:
    """Decode the frames, pass the packets of sound between them on to `out`, and count what is damaged."""
    import av

    moving, name = _moving_picture(film), Path(film.name).name
    moving.thread_type = "AUTO"
    start = max(0, film.start_time or 0)  # recordings of broadcasts begin at any time
    for packet in _packets(film, [moving, *pass_on], faults):
        shift = round(Fraction(start, av.time_base) / (packet.time_base or 1))
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        frames, sound = [], []
        try:
            if packet.stream is moving:
                frames = packet.decode()
            else:
                sound = pass_on[packet.stream](packet)
        except av.FFmpegError:
            faults["packets"] += 1
        for part in sound:
            try:
                out.mux(part)
            except av.FFmpegError as error:
                if isinstance(error, OSError):  # such as a full disk
                    raise PhotoError(f"{name}: {error.strerror}") from error
                faults["packets"] += 1  # such as a time that goes back
        for frame in frames:
            faults["decoded"] += 1
            faults["frames"] += frame.is_corrupt
            yield frame


def _packets(film: Any, streams: Sequence[Any], faults: Counter[str]) -> Iterator[Any]:
    """The packets of some streams, as far as the file can be read; the last one of each is empty."""
    import av

    try:
        yield from film.demux(streams)
    except av.FFmpegError:
        faults["unreadable"] += 1
        for stream in streams:
            packet = av.Packet()
            packet.stream, packet.time_base = stream, stream.time_base
            yield packet


def _scene_ends(images: Iterable[Image.Image], colorizer: Colorizer) -> list[tuple[float, float]]:
    """The tones that become black and white in each frame: in all of a scene, those of its frame of widest range.

    If each frame had its own, still parts would jump when something bright comes in. Those of the first frame would not
    do: many scenes fade in from black.
    """
    scenes: list[list[tuple[float, tuple[float, float]]]] = []
    steady, colors = SteadyColors(), torch.zeros(1, 2, SCENE_SIZE, SCENE_SIZE)
    for image in images:
        gray = np.asarray(image.convert("L"))
        steady(colorizer.network_input(image, SCENE_SIZE), colors)
        if steady.is_new_scene:
            scenes.append([])
        scenes[-1].append((float(np.ptp(np.percentile(gray, TONE_ENDS))), tone_ends(gray)))
    return [max(scene)[1] for scene in scenes for _ in scene]


def _notes(film: Any, moving: Any, faults: Counter[str], seconds: float) -> list[str]:
    """Sentences on what is lost of a clip, or looks wrong in the result, which lasts so many seconds."""
    import av

    promised = (film.duration or 0) / av.time_base
    differs = promised and abs(promised - seconds) > OFF
    decoded, told = faults["decoded"], moving.frames
    others = Counter(
        stream.type
        for stream in film.streams
        if stream.type == "subtitle"
        or (stream.type == "audio" and not stream.codec_context)
        or (stream.type == "video" and stream is not moving and not _is_cover(stream))
    )
    if hasattr(film, "chapters"):  # not of an old PyAV
        others["chapter"] = len(film.chapters())
    notes = {
        f"{decoded} of {told} frames could be decoded": decoded < (1 - MISSING) * told,
        f"{faults['packets']} damaged packets were left out": faults["packets"],
        f"{faults['frames']} damaged frames were colored as they are": faults["frames"],
        "it cannot be read up to its end": faults["unreadable"],
        f"its frames last {seconds:.1f} s, its file says {promised:.1f} s: it may be cut off or damaged": differs,
        "it is HDR, the result is not: it may look flat": moving.codec_context.color_trc in HDR,
        "it is interlaced: where it moves, edges look like combs": faults["interlaced"],
        f"left behind: {', '.join(f'{kind} ({count})' for kind, count in (+others).items())}": +others,
    }
    return [words for words, is_so in notes.items() if is_so]


def _texts(film: Any, moving: Any) -> dict[str, str]:
    """What a clip says about itself, with our note; Ogg says it about the picture."""
    texts = {key.lower(): text for key, text in (moving.metadata | film.metadata).items()}
    if NOTE not in (words := texts.get("comment", "")):
        texts["comment"] = f"{words} {NOTE}".strip()
    return texts


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
    aspect = Fraction(moving.sample_aspect_ratio or 1)  # of a pixel; often, it is not said
    context.time_base = moving.time_base
    context.sample_aspect_ratio = 1 / aspect if round(first.rotation / 90) % 2 else aspect
    context.colorspace = context.color_primaries = context.color_trc = BT709
    return shown


def _add_sound(out: Any, sound: Any) -> Callable[[Any], list[Any]]:
    """Make a function that turns packets of a clip's sound into those of the new one: as they are, or as AAC."""
    import av

    name = sound.codec_context.codec.canonical_name
    is_copied = name in SOUNDS and (name != "mp3" or sound.rate >= 16000)  # slower ones do not go into an MP4
    rate = sound.rate if sound.rate in AAC_RATES else 48000
    layout = "mono" if sound.channels == 1 else "stereo"
    heard = out.add_stream_from_template(sound) if is_copied else out.add_stream("aac", rate, layout=layout)
    heard.disposition = sound.disposition.value
    heard.metadata.update(sound.metadata)  # language, title
    if name := sound.metadata.get("name"):  # MP4's own word for it
        heard.metadata.setdefault("title", name)

    converters: dict[tuple, Any] = {}

    def encode(frame: Any) -> list[Any]:
        # a broadcast's sound may change between stereo and more channels: each kind is converted by its own
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind not in converters:
            converters[kind] = av.AudioResampler("fltp", layout, rate)
        return [part for same in converters[kind].resample(frame) for part in heard.encode(same)]

    def pass_on(packet: Any) -> list[Any]:
        if not is_copied:
            parts = [part for frame in packet.decode() for part in encode(frame)]
            return parts if packet.size else parts + heard.encode()  # the last packet is an empty one
        if packet.dts is None:
            return []
        packet.stream = heard
        return [packet]

    return pass_on


def _one_ahead(function: Callable, items: Iterable[tuple]) -> Iterator[Any]:
    """Call a function with each item, in a thread, while the next item is made here; yield what it returns."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        calls = (thread.submit(function, *item) for item in items)
        for call, _ in pairwise(chain(calls, [None])):  # the next one begins before the result of this one is awaited
            yield call.result()
