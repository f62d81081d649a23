"""What runs the networks that are timed: PyTorch or onnxruntime, as a table's conditions say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nas.latency import onnx_networks, timing
from searchspace.arch import Arch
from searchspace.costs.latency import LatencyTable, Size


def do_nothing() -> None:
    """For whom nobody waits."""


def device_of(here: LatencyTable) -> str:
    """PyTorch's device: only a GPU is timed in bfloat16."""
    return "cuda" if here.dtype == "bfloat16" else "cpu"


def layer_ms(
    archs: Sequence[Arch], here: LatencyTable, rounds: int, each: Callable[[], None] = do_nothing
) -> list[list[tuple[str, Size, float]]]:
    """For every network its layers, or kernels, in the order they run: (operator, size, milliseconds)."""
    if here.onnxruntime:
        return onnx_networks.layer_ms(archs, here, rounds, each)
    with timing.threads(here.threads):
        return timing.layer_ms(archs, device_of(here), here.batch_size, rounds, each)


def network_ms(
    archs: Sequence[Arch], here: LatencyTable, rounds: int, each: Callable[[], None] = do_nothing
) -> list[float]:
    """Median milliseconds of a batch, of networks that take turns."""
    if here.onnxruntime:
        return onnx_networks.network_ms(archs, here, rounds, each)
    device = device_of(here)
    with timing.threads(here.threads):
        models = [timing.ready(arch, device) for arch in archs]
        return timing.network_ms(models, archs, device, here.batch_size, rounds, each)
