"""Files that are written for people."""

from __future__ import annotations

import errno

import pytest

from searchspace.document import writing


def test_a_full_disk_says_what_was_written_where_the_system_does_not() -> None:
    with pytest.raises(OSError, match="No space left") as raised, writing("out best"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == "out best"
    with pytest.raises(OSError, match="No space left") as raised, writing("out best"):
        raise OSError(errno.ENOSPC, "No space left on device", "best/card.md")
    assert raised.value.filename == "best/card.md"
