"""A small web server for one person: several connections at a time, no line a request.

A page in the user's browser may give its own name this machine's address (DNS rebinding), and then ask and write here.
Such a page has a name, so only hosts without one are served, and those that are asked for.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from searchspace.errors import InputError

MOST_BYTES = 100_000  # of a request: a long note


class Server(ThreadingMixIn, WSGIServer):
    """Browsers open connections ahead of need; one that says nothing must not keep the others waiting."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a browser has closed its connection."""


class Server6(Server):
    address_family = socket.AF_INET6


class Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: errors have their own way to be told."""

    def get_stderr(self) -> Any:
        """Tracebacks go nowhere: what fails is an answer of 500."""
        return io.StringIO()


class Guarded:
    """The application for requests to this host alone, with bodies that are no longer than a long note."""

    def __init__(self, app: WSGIApplication, host: str) -> None:
        self.app, self.named = app, {"localhost", host.lower(), socket.gethostname().lower()}

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if not self.serves(environ.get("HTTP_HOST", "")):
            return refuse(start, "403 Forbidden", "this name is not served; --host names another")
        length = environ.get("CONTENT_LENGTH") or "0"
        if environ.get("HTTP_TRANSFER_ENCODING") or not (length.isascii() and length.isdecimal()):
            return refuse(start, "411 Length Required", "a request says how long it is")
        if len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            return refuse(start, "413 Content Too Large", f"at most {MOST_BYTES:,} bytes are accepted")
        return self.app(environ, start)

    def serves(self, host: str) -> bool:
        """Whether a Host header is of this server: an address, `localhost`, this machine's name, or `--host`."""
        name = host.lower()
        if not name.endswith("]"):  # an address of IPv6 without a port
            name = name.rpartition(":")[0] or name
        if name in self.named:
            return True
        with suppress(ValueError):
            return bool(ip_address(name.strip("[]")))
        return False


def refuse(start: StartResponse, status: str, why: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{why}\n".encode()]


def listening(app: WSGIApplication, host: str, port: int) -> WSGIServer:
    """A server that listens, to be served; `InputError` where it cannot."""
    try:
        return make_server(host, port, Guarded(app, host), Server6 if ":" in host else Server, Silent)
    except OSError as error:
        raise InputError(f"{host}:{port}: cannot listen ({error.strerror}); give another --host or --port") from None
