"""Several processes that train one network together, one on each GPU; without ``torchrun``, nothing happens."""

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

PATIENCE = datetime.timedelta(hours=3)  # for the first process, while it reads the photos


@contextmanager
def process_group(device: str | None = None) -> Iterator[None]:
    """Join the other processes that torchrun has started (it sets WORLD_SIZE); without it, do nothing.

    device: as for `environment.pick_device`; unless it says "cpu", each process takes a GPU of its own (NCCL), and
    on a computer without one they meet on the CPU (gloo). Raises `ValueError` when there are fewer GPUs than
    processes. Checked by tests/test_parallel.py.
    """
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    on_gpus = torch.cuda.is_available() and device in (None, "cuda")
    if on_gpus:
        here, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if here >= gpus:
            raise ValueError(f"more processes than GPUs: start torchrun with --nproc_per_node={gpus}")
        torch.cuda.set_device(here)
    dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
    yield
    # not after an error: it would wait for the others, they for this process, and torchrun would never hear of it
    dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0 on; the first one (0) writes files and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_processes(*values: float | torch.Tensor, device: torch.device) -> list[float]:
    """Add up numbers over all processes; waits for them, and for the device."""
    numbers = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device) for value in values])
    if processes() > 1:
        dist.all_reduce(numbers)
    return numbers.tolist()


def take_from_first(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite tensors with the first process's."""
    for tensor in tensors if processes() > 1 else ():
        dist.broadcast(tensor, 0)


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let the first process go through the block alone, then the others: what it leaves on disk is there for them."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and processes() > 1:
        dist.barrier()
