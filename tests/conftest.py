"""One thread: small networks gain nothing from more, and spinning barriers lose everything where a core is busy.

Latency tables of this machine are neither used nor made: commands under test look into an empty cache.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import torch

torch.set_num_threads(1)
os.environ["NAS_CACHE"] = tempfile.mkdtemp(prefix="nas-tests-")
atexit.register(shutil.rmtree, os.environ["NAS_CACHE"], ignore_errors=True)
