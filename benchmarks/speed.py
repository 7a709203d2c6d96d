"""How fast colorlib is, each figure beside the straightforward way of doing the same, in the same run.

    python benchmarks/speed.py                      # about four minutes on two CPU cores; needs no data
    python benchmarks/speed.py --data data/val2017  # with real photos; --help tells the rest

Prints a table and writes it to benchmarks/results/<device>.csv, which the report reads. The straightforward way is
what one writes first: decode, resize and convert with scikit-image in the data loader's processes, float32, one
step after the other. Both ways get the same photos, the same network, the same number of workers.
"""

import argparse
import contextlib
import io
import multiprocessing
import re
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.color import lab2rgb, rgb2lab
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from colorlib.colorize import Colorizer
from colorlib.config import SEED, Config
from colorlib.data import ColorizationDataset, find_images, get_dataloader, sample_photos
from colorlib.model import UNet
from colorlib.photo import read_photo
from colorlib.system import describe_environment, pick_device, pick_precision
from colorlib.train import TrainState, train_epoch

RESULTS = Path(__file__).parent / "results"
EPOCHS = 30
AIMS = {  # ratio on a CPU, on a GPU
    "data pipeline": (25, 100), "training": (2.5, 10), "one 256 px photo": (1.5, 2), "12-megapixel photo": (4, 10),
}  # fmt: skip


# --- the straightforward way ------------------------------------------------------------------------------------


class PlainDataset(Dataset):
    """Each item is decoded, resized and converted to Lab when it is asked for, in every epoch."""

    def __init__(self, paths: list[Path], size: int):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.open(self.paths[index]).convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        lab = torch.from_numpy(rgb2lab(np.asarray(image)).astype(np.float32)).permute(2, 0, 1)
        return lab[:1] / 50 - 1, lab[1:] / 128


def plain_loader(paths: list[Path], config: Config, workers: int) -> DataLoader:
    """Shuffled batches of a `PlainDataset`, made in worker processes."""
    return DataLoader(
        PlainDataset(paths, config.image_size), config.batch_size, shuffle=True, num_workers=workers,
        persistent_workers=workers > 0, pin_memory=torch.cuda.is_available(), drop_last=True,
    )  # fmt: skip


def plain_training(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches, device: torch.device) -> float:
    """One epoch in float32, which asks after every step how large the loss is; returns the sum of the losses."""
    model.train()
    total = 0.0
    for L, ab in batches:
        L, ab = L.to(device), ab.to(device)
        loss = F.l1_loss(model(L), ab)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


@torch.no_grad()
def plain_colorize(model: torch.nn.Module, image: Image.Image, size: int, device: torch.device) -> np.ndarray:
    """Color a photo at its own size, the whole of it at once, in float64."""
    small = rgb2lab(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)))
    L = torch.from_numpy(small[None, None, ..., 0].astype(np.float32)) / 50 - 1
    ab = F.interpolate(model(L.to(device)), (image.height, image.width), mode="bilinear")[0].cpu() * 128
    lab = rgb2lab(np.asarray(image))
    lab[..., 1:] = ab.permute(1, 2, 0).numpy()
    return (lab2rgb(lab) * 255).round().astype(np.uint8)


# --- measuring --------------------------------------------------------------------------------------------------


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long a piece of work takes, the device's part included."""
    wait, where = getattr(torch, device.type).synchronize, [] if device.type == "mps" else [device]
    wait(*where)
    start = time.perf_counter()
    work()
    wait(*where)
    return time.perf_counter() - start


def in_turn(slow: Callable[[], object], fast: Callable[[], object], rounds: int, device: torch.device) -> list[float]:
    """Medians of the seconds of two pieces of work that take turns, after one unmeasured round of each."""
    slow(), fast()
    times = [(seconds(slow, device), seconds(fast, device)) for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, float]]:
    """GB in use at most while a block runs, "peak", and beyond what was in use before, "more"."""
    result: dict[str, float] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield result
        most = torch.cuda.max_memory_allocated(device)
    else:
        process, done = psutil.Process(), threading.Event()
        before = most = process.memory_info().rss

        def watch() -> None:
            nonlocal most
            while not done.wait(0.005):
                most = max(most, process.memory_info().rss)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield result
        finally:
            done.set()
            thread.join()
    result |= {"peak": most / 1e9, "more": (most - before) / 1e9}


def matrix_rate(device: torch.device, precision: str) -> float:
    """Operations a second of a large matrix product in a precision, the best of several."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(getattr(torch, precision)) for _ in range(2))
    a @ b
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(10))


def count_operations(config: Config) -> tuple[int, int]:
    """Floating-point operations for one photo: of the network, and of a training step (forward and backward)."""
    L = torch.zeros(1, 1, config.image_size, config.image_size)
    model = UNet(config.width, config.depth).eval()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(L)
    with FlopCounterMode(display=False) as both:
        model(L).sum().backward()
    return forward.get_total_flops(), both.get_total_flops()


# --- the rows ---------------------------------------------------------------------------------------------------


def make_photos(folder: Path, count: int) -> list[Path]:
    """Photos of COCO's usual size, 640×480, cut at random from the sample photos."""
    random = np.random.default_rng(0)
    sources = [read_photo(path) for path in sample_photos()]
    for number in range(count):
        photo = sources[number % len(sources)]
        share = random.uniform(0.5, 1)
        width, height = int(photo.width * share), int(photo.height * share)
        left, top = random.integers(photo.width - width + 1), random.integers(photo.height - height + 1)
        cut = photo.crop((left, top, left + width, top + height)).resize((640, 480), Image.Resampling.BICUBIC)
        cut.save(folder / f"{number:04d}.jpg", quality=90)
    return find_images(folder)


class Table:
    """What was measured, a row each: printed at once, written in the end."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def pair(self, what: str, unit: str, slow: float, fast: float, ratio: float) -> None:
        """A figure of both ways, and how many times better ours is."""
        self.rows.append({"what": what, "unit": unit, "straightforward": slow, "colorlib": fast, "ratio": ratio})
        print(f"  {what}: {slow:.4g} → {fast:.4g} {unit}, {ratio:.2f}×", flush=True)

    def speed(self, what: str, photos: int, slow: float, fast: float) -> None:
        """Two speeds, from the seconds that a number of photos took."""
        self.pair(what, "images/s", photos / slow, photos / fast, slow / fast)

    def single(self, what: str, unit: str, value: float) -> None:
        """A figure of ours alone."""
        self.rows.append({"what": what, "unit": unit, "colorlib": value})
        print(f"  {what}: {value:.4g} {unit}", flush=True)


def measure_data(
    table: Table, paths: list[Path], loader: DataLoader, config: Config, device: torch.device, rounds: int
):
    """Batches of L and ab on the device and nothing else, from the second epoch on."""
    cached = ColorizationDataset(paths, config, device=device)
    streamed = ColorizationDataset(paths, config, device=device)
    streamed.resident, streamed.home = False, torch.device("cpu")

    def plain() -> None:
        for L, ab in loader:
            L.to(device), ab.to(device)

    def ours(photos: ColorizationDataset) -> None:
        for _ in range(EPOCHS):  # one alone is over too soon to be timed well
            for _ in get_dataloader(photos, config.batch_size, shuffle=True):
                pass

    for photos, what in ((cached, ""), (streamed, ", photos too many to stay on the device")):
        slow, fast = in_turn(plain, lambda photos=photos: ours(photos), rounds, device)
        table.speed(f"data pipeline{what}", len(paths), slow, fast / EPOCHS)


class Clock:
    """Passes batches on, a number of them, and adds up how long they were waited for."""

    def __init__(self, count: int):
        self.count, self.waited = count, 0.0

    def __call__(self, batches) -> Iterator:
        """The first batches of an iterable."""
        batches = iter(batches)
        for _ in range(self.count):
            start = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - start
            yield batch


def measure_training(
    table: Table, paths: list[Path], loader: DataLoader, config: Config, device: torch.device, rounds: int, quick: bool
) -> torch.nn.Module:
    """Steps of the full training, data included. Returns the network that was trained the straightforward way."""
    clock = Clock(min(len(loader), 60 if device.type == "cuda" else 3))
    images = clock.count * config.batch_size
    photos = ColorizationDataset(paths, config, device=device)
    torch.manual_seed(0)
    model = UNet(config.width, config.depth).to(device)
    adam = torch.optim.Adam(model.parameters(), config.learning_rate)
    state = TrainState(config, device, total_steps=1)
    batch = next(iter(get_dataloader(photos, config.batch_size)))

    def plain() -> None:
        plain_training(model, adam, clock(loader), device)

    def ours(state: TrainState, batches) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # no progress bar between the rows
            train_epoch(state, batches)

    def real() -> None:
        ours(state, clock(get_dataloader(photos, config.batch_size, shuffle=True)))

    def synthetic() -> None:
        ours(state, (batch for _ in range(clock.count)))

    slow, fast = in_turn(plain, real, rounds, device)
    table.speed("training", images, slow, fast)
    with peak_memory(device) as memory:
        clock.waited = 0.0
        total = sum(seconds(real, device) for _ in range(rounds))
    table.single("a training step's wait for data", "% of its time", 100 * clock.waited / total)
    table.single("peak memory of training", "GB", memory["peak"])
    with_data, without = in_turn(real, synthetic, rounds, device)
    table.single("training on one batch that stays on the device", "images/s", images / without)
    table.single("speed with real data, of that", "%", 100 * without / with_data)
    network, step = count_operations(config)
    rate = matrix_rate(device, state.precision)
    table.single("the network's arithmetic, a photo", "10⁹ operations", network / 1e9)
    table.single("a training step's arithmetic, a photo", "10⁹ operations", step / 1e9)
    table.single(f"large matrix product, {state.precision}", "10¹² operations/s", rate / 1e12)
    table.single("training's share of that rate", "%", 100 * step * images / fast / rate)
    if not quick:
        compiled = TrainState(config.replace(compile=True), device, total_steps=1)

        def fused() -> None:
            ours(compiled, clock(get_dataloader(photos, config.batch_size, shuffle=True)))

        try:
            table.single("torch.compile: its first steps", "s", seconds(fused, device))
            table.speed("training without and with torch.compile", images, *in_turn(real, fused, rounds, device))
        except Exception as error:  # it raises many kinds, above all where there is no C++ compiler
            print(f"  torch.compile does not work here: {type(error).__name__}")
    return model.eval()


def measure_use(
    table: Table, model: torch.nn.Module, config: Config, device: torch.device, rounds: int, quick: bool
) -> None:
    """Pictures out of a trained network: one small photo, several at once, a large one from its file."""
    colorizer, size = Colorizer(model, config, config.precision), config.image_size
    photo = read_photo(sample_photos()[0])
    small = photo.resize((size, size))

    def plain(image: Image.Image) -> np.ndarray:
        return plain_colorize(model, image, size, device)

    slow, fast = in_turn(lambda: plain(small), lambda: colorizer.colorize(small), 5 * rounds, device)
    table.pair("one 256 px photo", "ms", 1e3 * slow, 1e3 * fast, slow / fast)
    L = torch.rand(config.batch_size, 1, size, size, device=device) * 2 - 1
    with torch.no_grad():
        slow, fast = in_turn(lambda: model(L[:1]), lambda: colorizer.predict_ab(L[:1]), 5 * rounds, device)
        table.pair("one 256 px photo, the network alone", "ms", 1e3 * slow, 1e3 * fast, slow / fast)
        times = in_turn(lambda: model(L), lambda: colorizer.predict_ab(L), rounds, device)
    table.speed(f"{len(L)} photos at once, the network alone", len(L), *times)

    file = io.BytesIO()
    photo.resize((800, 600) if quick else (4000, 3000), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    jpeg = file.getvalue()
    ways = (lambda: plain(read_photo(jpeg)), lambda: colorizer.colorize(jpeg))
    slow, fast = in_turn(*ways, 2, device)
    table.pair("12-megapixel photo", "s", slow, fast, slow / fast)
    decoding = statistics.median(seconds(lambda: read_photo(jpeg), device) for _ in range(5))
    slow, fast = slow - decoding, fast - decoding
    table.pair("12-megapixel photo, apart from decoding", "s", slow, fast, slow / fast)
    if not quick:
        usage = []
        for ours in (False, True):  # each in a process of its own: freed memory is not always given back
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                usage.append(pool.submit(memory_of, ours, jpeg, config, str(device)).result())
        table.pair("memory for a 12-megapixel photo", "GB", *usage, usage[0] / usage[1])
    exact = Colorizer(model, config, "float32").colorize(small).astype(int)
    difference = np.abs(exact - colorizer.colorize(small)).mean()
    what = f"colors in {config.precision} against float32, mean difference"
    table.single(what, "8-bit steps", float(difference))


def memory_of(ours: bool, jpeg: bytes, config: Config, device: str) -> float:
    """GB of the computer's memory that a photo takes beyond the network that colors it."""
    model = UNet(config.width, config.depth).eval().to(device)
    colorizer = Colorizer(model, config, config.precision)

    def work(photo: Image.Image) -> None:
        colorizer.colorize(photo) if ours else plain_colorize(model, photo, config.image_size, torch.device(device))

    work(Image.new("RGB", (256, 256)))
    with peak_memory(torch.device("cpu")) as memory:
        work(read_photo(jpeg))
    return memory["more"]


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Read the command line, measure, write the table and return it."""
    parser = argparse.ArgumentParser(description="Time colorlib against the straightforward way.")
    parser.add_argument("--data", help="folder of photos, of which 200 are used; default: cut from the sample photos")
    parser.add_argument("--device", help="cuda, cpu, …; default: the best there is")
    parser.add_argument("--workers", type=int, default=2, help="processes of the straightforward data loader")
    parser.add_argument("--precision", default="auto", help="of colorlib's arithmetic")
    parser.add_argument("--rounds", type=int, default=3, help="how often each pair is measured")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the table")
    parser.add_argument("--quick", action="store_true", help="a toy network and small photos: does everything run?")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    config = SEED.replace(precision=pick_precision(device, options.precision))
    if options.quick:
        config = config.replace(width=8, depth=5, image_size=64, batch_size=4)
    count = 12 if options.quick else 200
    about = describe_environment()
    name = about["device"] if device.type == "cuda" else f"{about['device']}, {about['cores']} cores"
    warnings.filterwarnings("ignore", "Conversion from CIE-LAB")  # colors that sRGB cannot show
    print(f"{name}; PyTorch {torch.__version__}; {options.workers} workers; {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        paths = find_images(options.data)[:count] if options.data else make_photos(Path(folder), count)
        loader = plain_loader(paths, config, options.workers)
        table = Table()
        measure_data(table, paths, loader, config, device, options.rounds)
        model = measure_training(table, paths, loader, config, device, options.rounds, options.quick)
        measure_use(table, model, config, device, options.rounds, options.quick)
    table = pd.DataFrame(table.rows)
    column = 1 if device.type == "cuda" else 0
    table["aim"] = [AIMS[what][column] if what in AIMS else None for what in table["what"]]
    table["device"], table["precision"] = name, config.precision
    table["workers"], table["torch"] = options.workers, torch.__version__
    name = name if options.precision == "auto" else f"{name} {config.precision}"
    path = options.out / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table.to_csv(index=False, float_format="%.4g", lineterminator="\n"), encoding="utf-8")
    print(table[["what", "unit", "straightforward", "colorlib", "ratio", "aim"]].to_string(index=False, na_rep=""))
    return table


if __name__ == "__main__":
    main(sys.argv[1:])
