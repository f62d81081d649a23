"""Addresses of database servers, and where their passwords are removed: from what is shown, logged and kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from searchspace.errors import InputError

SERVERS = ("postgresql", "mysql", "mariadb")
ACCEPTED = "postgresql+psycopg://USER@HOST/DATABASE or mysql+pymysql://USER@HOST/DATABASE is accepted"


def server(text: str) -> URL:
    """The address of a database server; `InputError` where it is none. The message has no password."""
    if text.partition("?")[0].count("@") > 1:  # else what follows the first one is shown as the host
        raise InputError("storage: an @ in a user's name or password is written %40")
    try:
        url = make_url(text)
        kind = url.get_backend_name()
        url.get_dialect()  # which knows the names of drivers
    except (SQLAlchemyError, ValueError):
        raise InputError(f"storage: not an address of a database; {ACCEPTED}") from None
    if kind not in SERVERS:
        raise InputError(f"storage {kind}: {ACCEPTED}; a run folder keeps a SQLite file of its own")
    if not url.database:
        raise InputError(f"storage {without_password(text)}: names no database; {ACCEPTED}")
    return url


def without_password(text: str) -> str:
    """The address as it may be shown and kept: a password is asked of the environment when it is used again."""
    url = make_url(text)
    secret = [name for name in url.query if re.search("pass(word|wd|phrase)|secret|token", name, re.IGNORECASE)]
    bare = URL.create(
        url.drivername,
        url.username,
        None,
        url.host,
        url.port,
        url.database,
        {name: value for name, value in url.query.items() if name not in secret},
    )
    return bare.render_as_string(hide_password=False)


def hide(words: str, text: str) -> str:
    """Words without the password of the address `text`, whatever form it has in them."""
    if not text:
        return words
    words = words.replace(text, without_password(text))
    password = make_url(text).password
    return words.replace(str(password), "***") if password else words


def words_without_password(words: Sequence[str], text: str) -> list[str]:
    """The words of a command without the password of the address `text`; `InputError` where that is no address."""
    server(text)
    return [word.replace(text, without_password(text)) for word in words]
