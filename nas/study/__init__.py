"""The study: ask for networks inside a budget, tell what they scored, keep every trial. Optuna's door.

from nas.study import Study
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.samplers import ExhaustedError
    from nas.study.study import FullError, Study

__all__ = ["ExhaustedError", "FullError", "Study"]


def __getattr__(name: str) -> Any:
    """On first use: who reads the names of costs alone does not wait for Optuna."""
    if name in __all__:
        from nas.study import study

        return getattr(study, name)
    raise AttributeError(f"module 'nas.study' has no attribute {name!r}")
