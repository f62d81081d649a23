"""A proxy on loopback between a driver and its database server, which does what networks do: it delays what passes,
cuts connections, closes them in one direction, swallows what is on its way, and refuses new ones."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from tests.support.postgres import free_port

PIECE = 65_536


class Proxy:
    def __init__(self, to: int) -> None:
        self.to, self.port = to, free_port()
        self.delay_s, self.swallows, self.refuses = 0.0, False, False
        self.cuts = 0  # connections
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def cut(self) -> None:
        """Close every connection, in both directions, whatever is on its way."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.cuts += len(pairs)

    def half_close(self) -> None:
        """Nothing more passes from the server, and the driver is told that; what the driver sends still arrives."""
        pairs, self._pairs = self._pairs, []
        for driver, _ in pairs:
            with suppress(OSError):
                driver.shutdown(socket.SHUT_WR)
        self.cuts += len(pairs)

    @contextmanager
    def weather(self, seed: int) -> Iterator[None]:
        """Meanwhile something happens every second or so."""
        draw, over = random.Random(seed), threading.Event()

        def happen() -> None:
            while not over.wait(draw.uniform(0.1, 2)):
                draw.choice([self.cut, self.half_close, self._slow, self._refusing, self._swallowing])()

        thread = threading.Thread(target=happen)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _slow(self) -> None:
        self.delay_s = 0.05
        time.sleep(0.5)
        self.delay_s = 0.0

    def _refusing(self) -> None:
        self.refuses = True
        self.cut()
        time.sleep(1)
        self.refuses = False

    def _swallowing(self) -> None:
        """As a cable that is pulled out: nobody is told, until somebody is."""
        self.swallows = True
        time.sleep(0.3)
        self.swallows = False
        self.cut()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                driver, _ = self._listener.accept()
                if self.refuses:
                    driver.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.to))
                self._pairs.append((driver, server))
                self._begin(self._join, driver, server)

    def _begin(self, work: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _join(self, driver: socket.socket, server: socket.socket) -> None:
        """Both directions of a connection, until both are over."""
        with driver, server:
            back = self._begin(self._pump, server, driver)
            self._pump(driver, server)
            back.join()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while piece := one.recv(PIECE):
                time.sleep(self.delay_s)
                if not self.swallows:
                    other.sendall(piece)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def between(port: int) -> Iterator[Proxy]:
    with closing(Proxy(port)) as made:
        yield made
