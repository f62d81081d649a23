"""One thread: small networks gain nothing from more, and spinning barriers lose everything where a core is busy."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
