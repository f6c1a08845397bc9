"""Where a network's weights lie: on the disk until they are used, on the device from then on, or streamed there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import accelerate
import torch
from safetensors import SafetensorError, safe_open
from torch.utils.hooks import RemovableHandle

__all__ = ["at_first_use", "blocks", "compile_blocks", "place", "size", "stored_dtype", "stream"]


def stored_dtype(files: Iterable[Path]) -> torch.dtype | None:
    """The precision of weights as they lie on the disk: loaded in this one, they are not read before they are used.
    None where the file cannot be read, which loading it will say."""
    try:
        with safe_open(next(iter(files)), framework="pt") as file:
            return file.get_tensor(next(iter(file.keys()))).dtype
    except (OSError, SafetensorError, StopIteration):
        return None


def blocks(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The blocks that a network's forward comes to one after the other: the members of its lists."""
    for child in network.children():
        if isinstance(child, torch.nn.ModuleList):
            yield from child


def place(network: torch.nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Brings a network to a device (and a precision): each of its blocks at its first use, the rest now. What lies
    behind the probe is neither read from the disk nor moved, as long as every forward stops at the probe."""
    late = list(blocks(network))
    inside = {module for block in late for module in block.modules()}
    for module in network.modules():
        if module not in inside:
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                tensor.data = tensor.data.to(device, dtype if tensor.is_floating_point() else None)
    for block in late:
        at_first_use(block, device, dtype)


def at_first_use(module: torch.nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Brings a module to a device (and a precision) when it is first called."""
    move = _Move(device, dtype)
    move.handle = module.register_forward_pre_hook(move)


class _Move:
    """A move that waits for a module's first call."""

    handle: RemovableHandle

    def __init__(self, device: torch.device, dtype: torch.dtype | None) -> None:
        self._device, self._dtype = device, dtype

    def __call__(self, module: torch.nn.Module, inputs: Any = None) -> None:
        self.make(module, self._device)

    def make(self, module: torch.nn.Module, device: torch.device) -> None:
        self.handle.remove()
        with torch.inference_mode(False):  # weights that were made in inference mode could not be trained on
            module.to(device, self._dtype)


def stream(network: torch.nn.Module, device: torch.device) -> None:
    """Leaves a network's weights in the CPU's memory, and brings each layer to the device for as long as it is used:
    slow, but it needs next to no memory there (accelerate's `cpu_offload`, diffusers' sequential CPU offload)."""
    cpu = torch.device("cpu")
    network.to(cpu)
    for module in network.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, _Move):  # it would come too late
                hook.make(module, cpu)
    accelerate.cpu_offload(network, execution_device=device)


def compile_blocks(network: torch.nn.Module) -> None:
    """Compiles the forward of each block, and of the middle one, when it is first used. The probe's hook stays outside
    of what is compiled, so that a forward is read, edited and stopped as ever."""
    middle = getattr(network, "mid_block", None)
    for block in (*blocks(network), *([] if middle is None else [middle])):
        block.forward = torch.compile(block.forward)


def size(modules: Iterable[torch.nn.Module], dtype: torch.dtype) -> int:
    """Bytes of all their weights in a precision."""
    return int(sum(p.numel() for module in modules for p in module.parameters()) * dtype.itemsize)
