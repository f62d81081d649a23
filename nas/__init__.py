"""How spaces are searched: data, brief training, the study, workers, and the commands. See README.md."""

import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING, Any

# CPU threads that wait for each other sleep: spinning, all wait for the one whose core another program has (measured:
# 7 times the CPU time). OpenMP reads this when torch is first imported; what a user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What scikit-learn's joblib says where /dev/shm cannot be written: nothing here needs its processes.
warnings.filterwarnings("ignore", ".*joblib will operate in serial mode", UserWarning)

# `python -m nas.search` imports for a second or two: Ctrl-C then ends it without a traceback. Only such a command has
# this argument here, and from where its work begins `searchspace.command` decides.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

if TYPE_CHECKING:
    from nas.data.datasets import Split
    from nas.metric import Metric
    from nas.run.run import Run
    from nas.study.study import Study
    from nas.trial import Result, Trial
    from nas.workers.coordinator import Watcher
    from nas.workers.evaluate import Context

__all__ = ["Context", "Metric", "Result", "Run", "Split", "Study", "Trial", "Watcher"]

# Imported on first use: a command that only prints its help waits for none of these.
_HOMES = {
    "Context": "nas.workers.evaluate",
    "Metric": "nas.metric",
    "Result": "nas.trial",
    "Run": "nas.run.run",
    "Split": "nas.data.datasets",
    "Study": "nas.study.study",
    "Trial": "nas.trial",
    "Watcher": "nas.workers.coordinator",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
