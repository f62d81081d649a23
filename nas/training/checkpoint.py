"""Tensors in files: written in one step, and read without pickle, which would run what somebody put into the file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from searchspace.errors import InputError


def write(
    path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None, durable: bool = True
) -> None:
    """Tensors and notes in safetensors' format: whoever reads sees the old file or the new one, whatever happens.

    Not `durable`, it may be broken after a power failure, but not after a kill. Raises `OSError` where it cannot be
    written.
    """
    part = path.with_name(path.name + ".part")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    part.unlink(missing_ok=True)  # a link would be written through
    part.touch()
    permissions = part.stat().st_mode  # of any other file: safetensors puts a private one in its place
    try:
        save_file(plain, part, dict(notes or {}))
    except SafetensorError as error:  # as of a full disk, in words alone
        part.unlink(missing_ok=True)
        raise _os_error(error, path) from None
    part.chmod(permissions)
    if durable:
        with part.open("rb") as written:
            os.fsync(written.fileno())
    part.replace(path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and notes of a file; `InputError` where it is none of safetensors."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def notes(path: Path) -> dict[str, str]:
    """The notes alone, without reading tensors; `InputError` as for `read`."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _os_error(error: SafetensorError, path: Path) -> OSError:
    """`I/O error: No space left on device (os error 28)`, as what Python raises of that."""
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number) if found else str(error), str(path))


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a safetensors file ({' '.join(str(error).split())[:120]})")
