"""A GPU for computers without one: tensors that say they are on "cuda", and refuse what a real GPU refuses.

    with ImitatedGpu():
        colorlib.load().colorize("mill.jpg")

All numbers stay on the CPU. What a tensor says of its device, and what happens when devices meet, is
as on a T4: a tensor on the GPU that is joined to one on the CPU, or handed to NumPy, raises an error
in PyTorch's words.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from colorlib.color import _copied_constants

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
TURING = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "is_bf16_supported": lambda including_emulation=True: including_emulation,
    "get_device_name": lambda device=None: "Tesla T4",
    "mem_get_info": lambda device=None: (15 * 10**9, 16 * 10**9),
    "max_memory_allocated": lambda device=None: 10**9,
    "get_rng_state": lambda device=None: torch.get_rng_state(),
    "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
}
HEALTH_CHECKS = "_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"  # they ask the driver
MOVES = {"to", "cpu", "cuda", "type_as"}
MAY_MIX = {*MOVES, "copy_", ".set.data", "_has_compatible_shallow_copy_type"}
TO_NUMPY = {"numpy", "__array__"}


class ImitatedGpu(TorchFunctionMode):
    """Watch every call of PyTorch from Python, in this thread, while the `with` block lasts."""

    def __enter__(self) -> "ImitatedGpu":
        """Say that there is a GPU."""
        self.on_gpu: dict[int, StorageWeakRef] = {}  # memory that is said to be the GPU's
        _copied_constants.cache_clear()
        self.patches = contextlib.ExitStack()
        for name, claim in TURING.items():
            self.patches.enter_context(patch.object(torch.cuda, name, claim))
        for name in HEALTH_CHECKS:
            if hasattr(torch.optim.Optimizer, name):
                self.patches.enter_context(patch.object(torch.optim.Optimizer, name, lambda optimizer: None))
        self.patches.enter_context(patch.object(Tensor, "pin_memory", lambda tensor: tensor))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Take it back."""
        super().__exit__(*error)
        self.patches.close()
        _copied_constants.cache_clear()

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call a function with the CPU's numbers, if a GPU would have let it pass."""
        kwargs, name = kwargs or {}, function.__name__
        if name in ("__get__", "__set__"):  # an attribute, such as device, is read or written
            name = name.replace("__", ".") + function.__self__.__name__
        if name in ("device", "_parse_to"):  # which only read the name of a device
            return function(*args, **kwargs)
        given = args[:1] if name == "__deepcopy__" else (args, kwargs)  # its memo holds what was copied before
        tensors = list(_tensors(given))
        marked = list(map(self._is_marked, tensors))
        if name in (".get.device", ".get.is_cuda"):
            here = GPU if marked[0] else tensors[0].device
            return here if name == ".get.device" else marked[0]
        if name in TO_NUMPY and marked[0]:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if name not in MAY_MIX:
            _refuse_mixtures(name, tensors, marked)
        wanted = self._wanted_device(name, args, kwargs)
        called = Tensor.cpu if name == "cuda" else function
        result = called(*_without_gpu(args), **_without_gpu(kwargs))
        if name.startswith(".set") or name == "copy_":
            return result
        on_gpu = any(marked) if wanted is None else wanted.type == "cuda"
        if name in MOVES and on_gpu != marked[0] and result is tensors[0]:
            result = result.clone()  # on a GPU it would be another tensor
        for tensor in _tensors(result):
            self._mark(tensor, on_gpu)
        return result

    def _wanted_device(self, name: str, args: tuple, kwargs: dict) -> torch.device | None:
        """The device that a call asks for."""
        if name in ("cpu", "cuda"):
            return torch.device(name)
        if name in MOVES and len(args) > 1 and isinstance(args[1], Tensor):
            return GPU if self._is_marked(args[1]) else CPU
        named = [kwargs.get("device"), *(args[1:2] if name == "to" else ())]
        return next((torch.device(value) for value in named if isinstance(value, (str, torch.device))), None)

    def _is_marked(self, tensor: Tensor) -> bool:
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage()._cdata in self.on_gpu

    def _mark(self, tensor: Tensor, on_gpu: bool) -> None:
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
        if on_gpu:
            self.on_gpu[storage._cdata] = StorageWeakRef(storage)
        else:
            self.on_gpu.pop(storage._cdata, None)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _without_gpu(value: Any) -> Any:
    """The same arguments, with the CPU where the GPU is named."""
    if isinstance(value, (str, torch.device)) and str(value).split(":")[0] == "cuda":
        return CPU
    if isinstance(value, dict):
        return {key: _without_gpu(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_without_gpu, value))
    return value


def _refuse_mixtures(name: str, tensors: list[Tensor], marked: list[bool]) -> None:
    """A CPU tensor without dimensions is but a number, and a GPU's tensor may be indexed by a CPU's."""
    if name in ("__getitem__", "__setitem__") and marked[0]:
        return
    with torch._C.DisableTorchFunction():
        on_cpu = [tensor for tensor, mark in zip(tensors, marked, strict=True) if not mark and tensor.ndim]
    if any(marked) and on_cpu:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu, in {name}")
