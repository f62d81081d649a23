"""Networks for onnxruntime written from their layers: they are what is exported, and their kernels are found again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from hypothesis import given, settings

from nas import Run, measure, search
from nas.bundle import bundle, onnx_file
from nas.config import Execution
from nas.latency import onnx_graph, onnx_networks, onnx_timing, runtimes
from nas.run import latencies
from searchspace import Arch, InputError, Space, build, zoo
from searchspace.arch import lower
from searchspace.blocks.layers import Conv, steps
from searchspace.costs.kernels import kernels
from searchspace.costs.latency import LatencyTable, kernel, placed
from searchspace.format.network import Network
from tests.nas.bundle.test_int8_file import NETWORK
from tests.searchspace.costs.test_latency import SPACE
from tests.support.strategies import networks

MIXED = Space(NETWORK).arch()


def optimised(path: Path) -> Counter[str]:
    """The operators that onnxruntime runs of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimised"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def beginning(name: str) -> Arch:
    """The first blocks of a known network, which have every operator that it has."""
    arch = zoo(name, num_classes=5, resolution=64)
    return replace(arch, blocks=arch.blocks[:5])


@pytest.mark.parametrize(
    "arch",
    [
        MIXED,
        beginning("rexnet_100"),
        beginning("mobilenet_v3_small"),
    ],
    ids=["mixed", "rexnet", "mobilenet"],
)
def test_onnxruntime_runs_the_same_kernels_as_of_an_exported_network(arch: Arch, tmp_path: Path) -> None:
    images = torch.zeros(2, arch.in_channels, arch.resolution, arch.resolution)
    trained = bundle.disturb(build(arch).eval())  # fresh batch norms leave no bias in a file
    onnx_file.write(tmp_path / "exported.onnx", trained, images, arch.head.output)
    onnx.save(onnx_graph.model(arch), tmp_path / "written.onnx")
    assert optimised(tmp_path / "written.onnx") == optimised(tmp_path / "exported.onnx")


@settings(max_examples=25, deadline=None)
@given(networks())
def test_every_kernel_has_nodes_of_its_number(network: Network) -> None:
    arch = network.arch()
    names = {int(node.name[1:].split(".")[0]) for node in onnx_graph.model(arch).graph.node}
    numbers = onnx_graph.kernel_numbers(arch)
    assert len(numbers) == len(list(steps(lower(arch), (arch.in_channels, arch.resolution, arch.resolution))))
    assert names == set(numbers) == set(range(sum(len(list(kernels(*section))) for section in placed(arch))))


@settings(max_examples=15, deadline=None)
@given(networks())
def test_a_written_network_runs_and_its_numbers_stay_finite(network: Network) -> None:
    arch = network.arch()
    model = onnx_graph.model(arch)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.zeros((2, arch.in_channels, arch.resolution, arch.resolution), np.float32)
    (logits,) = session.run(None, {"images": images})
    with torch.inference_mode():
        assert logits.shape == tuple(build(arch).eval()(torch.from_numpy(images)).shape)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() > 1e-6  # not so small that numbers are denormal, which are slow


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_kernels_of_a_network_are_found_in_what_runs(dtype: str, tmp_path: Path) -> None:
    here = onnx_networks.conditions(dtype)  # type: ignore[arg-type]
    (found,) = onnx_networks.layer_ms([MIXED], here, 3, lambda: None)
    wanted = [name for section, shape in placed(MIXED) for name, _ in here.parts(section, shape)]
    assert [name for name, _, _ in found] == wanted
    assert max(ms for *_, ms in found) > 1e-3
    assert {"conv 3×3 s2", "silu", "hard_swish", "Gate", "Residual", "Linear"} < set(wanted)
    assert not {"relu6", "batch norm", "Flatten", "sigmoid"} & set(wanted)
    (whole,) = onnx_networks.network_ms([MIXED], here, 3, lambda: None)
    assert whole / 4 < sum(ms for *_, ms in found) < whole * 4


def test_kernels_that_have_no_number_are_charged_to_the_one_before() -> None:
    def event(name: str, us: int) -> dict[str, object]:
        return {"name": f"{name}_kernel_time", "dur": us}

    runs = [event("s0.0.out_nchwc", 5), event("ReorderOutput_token_3", 2), event("s1.2.Mul", 7), event("s2.Conv", 9)]
    slower = [event("s0.0.out_nchwc", 4), event("ReorderOutput_token_3", 3), event("s1.2.Mul", 8), event("s2.Conv", 90)]
    other: dict[str, object] = {"name": "model_run", "dur": 99}
    assert onnx_timing.by_step([other, *runs, other, *slower], 2) == {0: 4.5 + 2.5, 1: 7.5, 2: 9.5}


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (Conv(3, 16, 3, 2), "conv 3×3 s2"),
        (Conv(15, 16), "conv 1×1 s1"),
        (Conv(17, 16), "conv 1×1 s1, unaligned"),
        (Conv(20, 16), "conv 1×1 s1"),
        (Conv(6, 6, 3, groups=6), "conv 3×3 s1 depthwise, unaligned"),
        (Conv(8, 8, 3, groups=8), "conv 3×3 s1 depthwise"),
    ],
)
def test_channels_in_fours_are_timed_by_themselves(layer: Conv, name: str) -> None:
    assert kernel(layer) == name


def test_measured_and_searched_by_the_milliseconds_of_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(SPACE))
    words = ["--space", "tiny.yaml", "--runtime", "onnxruntime", "--table", "table.json"]
    assert measure.main(words) == 0
    code = measure.main([*words, "--check"])
    said = " ".join(capsys.readouterr().out.split())
    assert ("does NOT hold" in said) == (code == 1)
    table = LatencyTable.load("table.json")
    assert f"batch 1, 1 thread, float32, onnxruntime {onnxruntime.__version__}" in str(table)
    assert str(table) in said
    assert "batch norm" not in table.times
    with pytest.raises(InputError, match=r"table\.json is of .*float32, onnxruntime .*, this is .*int8, onnxruntime"):
        measure.main([*words, "--dtype", "int8"])
    with pytest.raises(
        InputError, match=r"table\.json is of .*onnxruntime .*, this is .*torch .*; give another --table"
    ):
        measure.main(["--space", "tiny.yaml", "--table", "table.json"])
    words = [
        "--space",
        "tiny.yaml",
        "--latency-table",
        "table.json",
        "--budget",
        "0.3ms",
        "--band",
        "5",
        "--run",
        "run",
    ]
    assert search.main([*words, "--trials", "2", "--epochs", "1", "--images", "200", "--concurrent", "1"]) == 0
    assert f"latency predicted for {table}" in " ".join(capsys.readouterr().out.split())
    run = Run.open("run")
    assert run.latency_table == table
    for trial in run.trials:
        assert 0 < (trial.predicted_ms or 0) <= 0.3
        assert trial.contended_ms is None  # which would be PyTorch's
        assert trial.alone_ms is not None


def test_what_a_runtime_cannot_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="dtype int8: of --runtime onnxruntime alone"):
        measure.main(["--dtype", "int8"])
    with pytest.raises(InputError, match="device cuda: onnxruntime is timed on the CPU"):
        measure.main(["--runtime", "onnxruntime", "--device", "cuda"])
    find = onnx_networks.importlib.util.find_spec
    monkeypatch.setattr(
        onnx_networks.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    with pytest.raises(InputError, match=r"runtime onnxruntime needs onnxruntime: pip install"):
        measure.main(["--runtime", "onnxruntime"])


def test_the_best_networks_are_timed_by_the_runtime_that_their_predictions_are_of() -> None:
    here = onnx_networks.conditions("int8", 2, 1)
    assert latencies.where_to_time(here, Execution()) == (here, "")
    found, why = latencies.where_to_time(replace(here, onnxruntime="1.0"), Execution())
    assert found is None
    assert "int8, onnxruntime 1.0; this is" in why
    assert runtimes.network_ms([MIXED], here, 1)[0] > 0
