"""What commands say of an option, said from Python of its keyword: `trials=`, not `--trials`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from searchspace.errors import InputError

# A whole command stays as it is; `--images 200`, `--images N` and `--space mobile_small` keep their value.
OPTION = re.compile(r"python -m [^;()]*|--([a-z][a-z-]*)(?: ([A-Z]+\b|[0-9][^\s;,)]*|[a-z]+_\w+))?")
# The option that a message begins with: `time-limit 'x': …`.
FIRST = re.compile(r"[a-z]+(?:-[a-z]+)+(?=: | \S+: )")


@contextmanager
def as_keywords(run: str) -> Iterator[None]:
    """An `InputError` that is raised meanwhile speaks of keywords; `run` is that of the run's folder."""
    try:
        yield
    except InputError as error:
        error.args = (of_python(str(error), run),)
        raise


def of_python(said: str, run: str) -> str:
    """A message about options as one about keywords."""

    def keyword(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        return f"{run if found[1] == 'run' else found[1].replace('-', '_')}={found[2] or ''}"

    first = FIRST.match(said)
    name = first[0].replace("-", "_") if first else ""
    return name + OPTION.sub(keyword, said[len(name) :])
