"""The actor that evaluates one trial after another: the process is reused, the state is not. Ray Tune's other door.

It knows nothing of studies: what this module imports is what a first trial waits for.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ray import tune

from nas.config import TrainConfig
from nas.data.datasets import Split
from nas.trial import Trial
from nas.workers.evaluate import evaluate


class Worker(tune.Trainable):  # type: ignore[misc]
    """One epoch a step."""

    def setup(
        self,
        config: dict[str, Any],
        split: Split,
        train: TrainConfig,
        device: str,
        seed: int,
        folder: Path | None,
        timeout_s: float,
        gpu_share: float,
        graphs: bool,
    ) -> None:
        self.results = evaluate(
            Trial.of_text(config["trial"]), split, train, seed, device, folder, timeout_s, gpu_share, graphs
        )

    def step(self) -> dict[str, Any]:
        return dataclasses.asdict(next(self.results))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.results.close()
        self.setup(new_config)  # type: ignore[call-arg]
        return True

    def cleanup(self) -> None:
        self.results.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None
