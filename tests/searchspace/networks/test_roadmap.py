"""ConvNeXt's roadmap: multiply-adds and parameters of every step, and where it starts and ends."""

from dataclasses import replace

from searchspace import cost, zoo
from searchspace.networks.roadmap import roadmap, steps

FIGURE = {  # GFLOPs of the paper's Figure 2; G multiply-adds and M parameters of an independent reconstruction
    "resnet50": (4.1, 4.089, 25.557),
    "stage ratio": (4.5, 4.526, 28.629),
    "patchify stem": (4.4, 4.418, 28.622),
    "depthwise": (2.4, 2.350, 15.723),
    "width": (5.3, 5.268, 33.761),
    "inverted bottleneck": (4.6, 4.644, 25.851),
    "depthwise moved up": (4.1, 4.065, 25.626),
    "kernel 7": (4.2, 4.146, 25.86),
    "GELU": (4.2, 4.146, 25.86),
    "fewer activations": (4.2, 4.146, None),
    "fewer norms": (4.2, 4.146, None),
    "layer norm": (4.2, 4.146, None),
    "separate downsampling": (4.5, 4.456, 28.589),
}


def test_every_step_costs_what_the_figure_says() -> None:
    found = roadmap()
    assert list(found) == list(FIGURE)
    for name, (gflops, macs, params) in FIGURE.items():
        spent = cost(found[name])
        # 5.268 is 5.27 in the text of the paper and 4.146 is 4.15: the figure rounds up or down
        assert abs(spent.macs / 1e9 - gflops) < 0.06, name
        assert round(spent.macs / 1e9, 3) == macs, name
        if params is not None:
            assert abs(spent.params / 1e6 - params) < 0.006, name


def test_it_goes_from_resnet_50_to_convnext_t_and_never_stands() -> None:
    found = list(roadmap().values())
    assert (found[0], found[-1]) == (zoo("resnet50"), zoo("convnext_tiny"))
    assert len({arch.digest for arch in found}) == len(found) == 13


def test_kernels_of_the_figure_too() -> None:
    step = dict(steps())["depthwise moved up"]
    for kernel, macs in ((5, 4.097), (9, 4.210), (11, 4.291)):
        stages = tuple(replace(stage, kernel=kernel) for stage in step.stages)
        assert round(cost(replace(step, stages=stages).arch()).macs / 1e9, 3) == macs
