"""`model.onnx`: a network in ONNX's format, without anything of the machine and the program that wrote it."""

from __future__ import annotations

import importlib.util
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from searchspace.errors import InputError

OPSET = 18
# The exporter's, in every node: stack traces with this machine's paths, more bytes than a small network's weights.
NOTES = ("metadata_props", "doc_string")


def require_onnx(tflite: bool = False) -> None:
    """`InputError` that says what to install where ONNX files, or TFLite files of them, cannot be written and tried."""
    needed = ("onnx", "onnxscript", "onnxruntime", *(("flatbuffers",) if tflite else ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        files = "ONNX and TFLite files" if tflite else "ONNX files"
        raise InputError(f"{files} need {', '.join(missing)}: pip install 'cnn-budget-search[export]'")


def write(path: Path, model: nn.Module, images: Tensor, output: str) -> None:
    """The network for any number of images: `images` (N, in_channels, H, W) to what `output` names."""
    with _quiet():
        program = torch.onnx.export(
            model,
            (images,),
            input_names=["images"],
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    strip(proto)
    path.write_bytes(proto.SerializeToString())


def strip(message: Any) -> None:
    """Remove the notes of a protobuf message and of all that it holds, in place."""
    for field, value in message.ListFields():
        if field.name in NOTES:
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if isinstance(value, Iterable) else [value]:
                strip(part)


class MutedHere(io.TextIOBase):
    """An output that drops what the thread writes that has made it: others have to say meanwhile how long it takes."""

    def __init__(self, output: TextIO) -> None:
        super().__init__()
        self.output, self.muted = output, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self.muted else self.output.write(text)

    def flush(self) -> None:
        if threading.get_ident() != self.muted:
            self.output.flush()

    def isatty(self) -> bool:
        return self.output.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.output.encoding

    def fileno(self) -> int:
        return self.output.fileno()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own news, such as operators of torchvision that no network here has."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(MutedHere(sys.stdout)):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
