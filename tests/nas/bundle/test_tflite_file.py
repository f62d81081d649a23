"""An int8 network as a TFLite file: it computes what onnxruntime does, in the arena that was counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from nas.bundle import micro, onnx_file, tflite_file
from nas.bundle.bundle import disturb
from nas.bundle.int8_file import INT8
from nas.bundle.tflite_file import Converter
from nas.latency.quantisation import quantise
from searchspace import Arch, InputError, Space, build, cost

IMAGES = 16


def quantised(arch: Arch, folder: Path, coarse: bool = False) -> NDArray[np.float32]:
    """Write a network with disturbed weights as an int8 ONNX file; returns images that it may be given, of noise or
    of coarse patterns, which a network tells apart better."""
    torch.manual_seed(0)
    images = torch.randn(IMAGES, arch.in_channels, *[4 if coarse else arch.resolution] * 2)
    if coarse:
        images = 2 * F.interpolate(images, size=arch.resolution, mode="bilinear")
    onnx_file.write(folder / "model.onnx", disturb(build(arch)).eval(), images, "logits")
    found: NDArray[np.float32] = images.numpy()
    quantise(folder / "model.onnx", folder / INT8, iter([found]))
    return found


@pytest.mark.parametrize(("channels", "pixels"), [(3, 64), (1, 33)])
def test_it_computes_what_onnxruntime_does(tmp_path: Path, channels: int, pixels: int) -> None:
    pytest.importorskip(micro.PACKAGE)
    import onnxruntime

    space = Space.load("mcu").fix([f"in_channels={channels}", f"resolution={pixels}"])
    arch = space.sample(3, ["64kB int8", "100kBFlash int8"])
    images = quantised(arch, tmp_path)
    written = tflite_file.write(tmp_path, images)
    logits = onnxruntime.InferenceSession(tmp_path / INT8).run(None, {"images": images})[0]
    found = micro.measure(tmp_path / tflite_file.FILE, images)
    assert np.abs(found.logits - logits).max() < 0.1 * np.ptp(logits)
    assert np.corrcoef(found.logits.ravel(), logits.ravel())[0, 1] > 0.99
    assert written.tried == IMAGES
    spent = cost(arch)
    assert spent.int8_arena_bytes is not None
    assert spent.int8_flash_bytes is not None
    assert 0.95 * spent.int8_arena_bytes <= found.arena == written.arena <= spent.int8_arena_bytes
    assert spent.int8_flash_bytes - 1500 <= written.size <= spent.int8_flash_bytes


def agreement(arch: Arch, folder: Path) -> float:
    """How the logits of both int8 files go together over images, without what is the same for all of them."""
    import onnxruntime

    images = quantised(arch, folder, coarse=True)
    tflite_file.write(folder, images)
    logits = onnxruntime.InferenceSession(folder / INT8).run(None, {"images": images})[0]
    found = micro.measure(folder / tflite_file.FILE, images).logits
    return float(np.corrcoef((found - found.mean(0)).ravel(), (logits - logits.mean(0)).ravel())[0, 1])


@pytest.mark.parametrize(("pixels", "kernel"), [(33, 2), (32, 2), (35, 4)])
def test_convolutions_without_padding_leave_out_the_last_pixels(tmp_path: Path, pixels: int, kernel: int) -> None:
    pytest.importorskip(micro.PACKAGE)
    network = {
        "resolution": pixels,
        "stem": {"width": 8, "kernel": kernel, "stride": kernel, "act": "relu"},
        "schedule": {"kind": "explicit", "widths": [8, 16]},
        "stages": [{"block": "bottleneck", "depth": 2, "stride": 2, "expansion": 2, "expand_act": "relu"}],
        "head": {"width": 0},
    }
    assert agreement(Space(network).arch(), tmp_path) > 0.98


@pytest.mark.parametrize("pixels", [32, 33])
def test_a_shortcut_of_stride_2_leaves_out_every_second_pixel(tmp_path: Path, pixels: int) -> None:
    """Of an even map it left out the others."""
    pytest.importorskip(micro.PACKAGE)
    network = {
        "resolution": pixels,
        "stem": {"width": 8, "kernel": 3, "stride": 1, "act": "relu"},
        "schedule": {"kind": "explicit", "widths": [8, 16]},
        "stages": [{"block": "basic", "depth": 1, "stride": 2, "spatial_act": "relu"}] * 2,
        "head": {"width": 0},
    }
    assert agreement(Space(network).arch(), tmp_path) > 0.98


def test_dilated_convolutions_stay_dilated(tmp_path: Path) -> None:
    pytest.importorskip(micro.PACKAGE)
    stage = {"block": "mbconv", "depth": 2, "stride": 1, "expansion": 2, "dilation": 2}
    network = {
        "resolution": 17,
        "stem": {"width": 8, "kernel": 3, "stride": 2, "act": "relu"},
        "schedule": {"kind": "explicit", "widths": [8, 8]},
        "stages": [{**stage, "expand_act": "relu", "spatial_act": "relu"}],
        "head": {"width": 0},
    }
    assert agreement(Space(network).arch(), tmp_path) > 0.98


def test_a_kernel_that_tflite_pads_otherwise_is_refused(tmp_path: Path) -> None:
    """It was written, to be computed of other pixels."""
    network = {
        "resolution": 33,
        "stem": {"width": 4, "kernel": 4, "stride": 2, "act": "relu"},
        "schedule": {"kind": "explicit", "widths": [8]},
        "stages": [{"block": "conv", "depth": 1, "stride": 1, "spatial_act": "relu"}],
        "head": {"width": 0},
    }
    quantised(Space(network).arch(), tmp_path)
    with pytest.raises(InputError, match="tflite: a kernel of 4 at stride 2 on 33 px is padded as TFLite pads none"):
        Converter.of(tmp_path / INT8)


def test_a_head_with_a_convolution_after_the_pool_is_written_too(tmp_path: Path) -> None:
    """As MobileNetV4's; it ended in a traceback."""
    network = {
        "resolution": 32,
        "stem": {"width": 8, "act": "relu"},
        "schedule": {"kind": "explicit", "widths": [8]},
        "stages": [{"block": "conv", "depth": 1, "stride": 2, "spatial_act": "relu"}],
        "head": {"width": 16, "hidden": 24, "hidden_norm": True, "act": "relu", "hidden_act": "relu"},
        "num_classes": 10,
    }
    images = quantised(Space(network).arch(), tmp_path)
    (tmp_path / tflite_file.FILE).write_bytes(Converter.of(tmp_path / INT8).flat_buffer())
    pytest.importorskip(micro.PACKAGE)
    import onnxruntime

    logits = onnxruntime.InferenceSession(tmp_path / INT8).run(None, {"images": images})[0]
    found = micro.measure(tmp_path / tflite_file.FILE, images)
    assert np.corrcoef(found.logits.ravel(), logits.ravel())[0, 1] > 0.99


def test_its_plan_holds_what_is_alive(tmp_path: Path) -> None:
    """The bytes that are counted without the file."""
    from nas.bundle.arena import least
    from searchspace.costs.network_cost import section_costs

    arch = Space.load("mcu").fix(["resolution=32"]).sample(1, "40kB int8")
    quantised(arch, tmp_path)
    maps = list(Converter.of(tmp_path / INT8).lifetimes().values())
    assert least(maps) == pytest.approx(max(part.arena for part in section_costs(arch)), abs=64)


def test_it_names_an_operator_that_it_lacks(tmp_path: Path) -> None:
    network = {
        "resolution": 16,
        "stem": {"width": 4, "act": "hard_swish"},
        "schedule": {"kind": "explicit", "widths": [8]},
        "stages": [{"block": "mbconv", "depth": 1, "se": 0.25}],
        "head": {"width": 0},
    }
    quantised(Space(network).arch(), tmp_path)
    with pytest.raises(InputError, match=r"tflite: operator .* has no counterpart; networks of space mcu have none"):
        Converter.of(tmp_path / INT8)
