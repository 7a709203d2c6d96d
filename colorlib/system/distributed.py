"""Several processes that train one network together, one on each GPU; without ``torchrun``, nothing happens."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist


@contextmanager
def process_group(device: str | None = None) -> Iterator[None]:
    """Join what torchrun has started, if it has: each process takes a GPU (NCCL), or all meet on the CPU (gloo)."""
    if "WORLD_SIZE" in os.environ:
        on_gpus = torch.cuda.is_available() and device in (None, "cuda")
        if on_gpus:
            here, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            if here >= gpus:
                raise ValueError(f"more processes than GPUs: start torchrun with --nproc_per_node={gpus}")
            torch.cuda.set_device(here)
        # they wait for three hours, while the main process reads the photos
        dist.init_process_group("nccl" if on_gpus else "gloo", timeout=timedelta(hours=3))
    yield
    if dist.is_initialized():  # not after an error: it would wait for the others, and torchrun would never hear of it
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0 on; the main one (0) writes files and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(*values: float | torch.Tensor, device: torch.device) -> list[float]:
    """Add up each number over all processes; waits for them, and for the device."""
    numbers = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device) for value in values])
    if world_size() > 1:
        dist.all_reduce(numbers)
    return numbers.tolist()


def broadcast_from_main(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite tensors with the main process's."""
    for tensor in tensors if world_size() > 1 else ():
        dist.broadcast(tensor, 0)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the main process go through the block alone, then the others, who find what it left on disk."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and world_size() > 1:
        dist.barrier()
