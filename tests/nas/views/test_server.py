"""The dashboard's web server: whom it serves, what it takes, and that it prints nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from typing import Any

import pytest

from nas.views.server import MOST_BYTES, Guarded, listening


def application(environ: dict[str, Any], start: Any) -> list[bytes]:
    """Fails where it is asked to, else says how much it was sent."""
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError("on purpose")
    sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(len(sent)).encode()]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening(application, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def asked(port: int, method: str = "GET", path: str = "/", body: Any = None, **headers: str) -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        with suppress(BrokenPipeError):  # refused before all of it was sent
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize(
    ("host", "served"),
    [
        *(("127.0.0.1:8080", True), ("127.0.0.1", True), ("localhost:8080", True), ("LOCALHOST", True)),
        *(("[::1]:8080", True), ("[::1]", True), ("192.168.1.7:8080", True), ("my.machine:8080", True)),
        *(("evil.example", False), ("evil.example:8080", False), ("127.0.0.1.evil.example", False), ("", False)),
        *(("localhost.evil.example:80", False), ("[evil]:80", False), (":80", False)),
    ],
)
def test_a_name_that_was_not_asked_for_is_not_served(host: str, served: bool) -> None:
    """A page of the web that gives its own name this machine's address."""
    assert Guarded(application, "my.machine").serves(host) == served


def test_other_hosts_read_and_write_nothing(port: int) -> None:
    assert asked(port) == (200, b"0")
    assert asked(port, Host=f"localhost:{port}")[0] == 200
    assert asked(port, Host="evil.example")[0] == 403
    assert asked(port, "PUT", body=b"note", Host="evil.example", Origin="http://evil.example")[0] == 403


def test_what_is_sent_is_limited(port: int) -> None:
    assert asked(port, "PUT", body=bytes(MOST_BYTES)) == (200, str(MOST_BYTES).encode())
    assert asked(port, "PUT", body=b"", Content_Length=str(MOST_BYTES + 1))[0] == 413
    assert asked(port, "PUT", body=b"", Content_Length="9" * 5000)[0] == 413
    assert asked(port, "PUT", body=b"", Content_Length="-1")[0] == 411
    assert asked(port, "PUT", body=iter([b"x"]))[0] == 411  # in chunks


def test_nothing_is_printed(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """What fails is an answer; whoever goes away while it is made says nothing."""
    assert asked(port, path="/fail")[0] == 500
    for request in (b"GET /fail HTTP/1.1\r\nHost: localhost\r\n\r\n", b"nonsense\r\n\r\n", b"\x00\xff\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset where it is left
    assert asked(port)[0] == 200
    assert capfd.readouterr().err == ""
