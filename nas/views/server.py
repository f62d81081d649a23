"""A small web server for one person: several connections at a time, no line a request."""

from __future__ import annotations

import socket
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import WSGIApplication

from searchspace.errors import InputError


class Server(ThreadingMixIn, WSGIServer):
    """Browsers open connections ahead of need; one that says nothing must not keep the others waiting."""

    daemon_threads = True


class Server6(Server):
    address_family = socket.AF_INET6


class Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: errors have their own way to be told."""


def listening(app: WSGIApplication, host: str, port: int) -> WSGIServer:
    """A server that listens, to be served; `InputError` where it cannot."""
    try:
        return make_server(host, port, app, Server6 if ":" in host else Server, Silent)
    except OSError as error:
        raise InputError(f"{host}:{port}: cannot listen ({error.strerror}); give another --host or --port") from None
