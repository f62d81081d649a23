"""The actor that evaluates one trial after another: the process is reused, the state is not. Ray Tune's other door.

It knows nothing of studies: what this module imports is what a first trial waits for.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from nas.data.datasets import Split
from nas.trial import Result, Trial
from nas.workers import declarations
from nas.workers.evaluate import Context, Evaluate, first_line, guard, trial_seed
from searchspace.errors import InputError


class Worker(tune.Trainable):  # type: ignore[misc]
    """One epoch per step. `sent` refers to a training, `evaluate`, and its `data`, or a callable that makes them here;
    `folder` is for checkpoints."""

    def setup(
        self,
        config: dict[str, Any],
        sent: Mapping[str, ray.ObjectRef],
        context: Context,
        folder: Path | None,
        declared: bytes,
    ) -> None:
        declarations.adopt(declared)
        trial = Trial.of_text(config["trial"])
        kept = folder / f"{trial.training}.safetensors" if folder and folder.is_dir() else None
        self.results: Iterator[Result] = iter(())
        if not hasattr(self, "data"):
            try:
                evaluate, data = (_receive(name, sent[name]) for name in ("evaluate", "data"))
                self.evaluate: Evaluate = evaluate
                self.data = _make(data) if callable(data) and not isinstance(data, Split) else data
            except InputError as error:
                self.results = iter([Result(error=str(error))])
                return
            gc.freeze()  # what is imported by now stays, and need not be searched for garbage after every trial
        seed = trial_seed(context.seed, trial.training)
        own = dataclasses.replace(context, data=self.data, seed=seed, checkpoint=kept)
        if trial.final:
            recipe = dataclasses.replace(context.train, epochs=trial.final.epochs)
            data = self.fold(trial.final.fold, trial.final.equal)
            own = dataclasses.replace(own, data=data, epochs=recipe.epochs, train=recipe)
        self.results = guard(trial, own, self.evaluate)

    def fold(self, number: int, equal: bool) -> Any:
        """The data with other images held out, where they are images; the last ones are kept."""
        if not isinstance(self.data, Split):
            return self.data
        if number and getattr(self, "held", (None, None))[0] != (number, equal):
            self.held = (number, equal), self.data.fold(number, equal)
        return self.held[1] if number else self.data

    def step(self) -> dict[str, Any]:
        result = next(self.results)
        return {**dataclasses.asdict(result), "done": result.done}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)  # type: ignore[call-arg]
        return True

    def cleanup(self) -> None:
        close = getattr(self.results, "close", None)
        if close:
            close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None


def _receive(name: str, sent: ray.ObjectRef) -> Any:
    """What the driver has sent; `InputError` where that needs what cannot be imported here."""
    try:
        return ray.get(sent)
    except Exception as error:
        said = first_line(error).removeprefix("System error: ")
        raise InputError(
            f"{name}: cannot be loaded by workers ({said}); its module has to be importable there"
        ) from None


def _make(data: Callable[[], Any]) -> Any:
    """What a callable makes on a worker."""
    try:
        return data()
    except Exception as error:
        raise InputError(f"data: {type(error).__name__}: {first_line(error)}") from None
