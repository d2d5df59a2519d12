"""Proxies on the loopback that let so many bytes of the server through. Then one keeps the rest, and one strikes."""

import contextlib
import socket
import struct
import threading
import time

from tests.faults.loopback import LoopbackProxy


class StallingProxy(LoopbackProxy):
    """Forwards to a port on the loopback. limit: bytes from the server over all connections, None for all; resumes:
    the rest is kept until resume(); keeps: a text, and what a client sends with it or after it is kept until then;
    spares_later: connections that are made when it has stalled are let through.

    is_kept: set once it has kept something of a client.
    """

    def __init__(
        self,
        port: int,
        limit: int | None = None,
        resumes: bool = False,
        keeps: bytes | None = None,
        spares_later: bool = False,
    ) -> None:
        super().__init__(port)
        self._spares_later = spares_later
        self.left, self._resumes, self._keeps = limit, resumes, keeps
        self._lock, self._resumed, self.is_kept = threading.Lock(), threading.Event(), threading.Event()
        self.asked = 0

    def stall(self, after: int) -> None:
        """Let so many more bytes of the server through, and then none."""
        with self._lock:
            self.left = after

    def resume(self) -> None:
        """Let what was kept through, and all that comes."""
        self._resumed.set()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            server = self._connect()
            with self._lock:
                self.asked += 1
                is_spared = self._spares_later and self.left == 0
            threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
            self._forward(server, client, not is_spared)

    def _forward(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                if not counted and self._keeps is not None and self._keeps in content:
                    self.is_kept.set()
                    self._resumed.wait()
                allowed = self._allowed(content) if counted else content
                target.sendall(allowed)
                if self._resumes and len(allowed) < len(content):
                    self._resumed.wait()
                    target.sendall(content[len(allowed) :])
            target.shutdown(socket.SHUT_WR)

    def _allowed(self, content: bytes) -> bytes:
        with self._lock:
            if self.left is None or self._resumed.is_set():
                return content
            content = content[: self.left]
            self.left -= len(content)
            return content


class StrikingProxy(LoopbackProxy):
    """Forwards to a port on the loopback, or in a directory of sockets (host), and strikes after limit bytes from the
    server over all connections.

    strike: "cut" closes every connection, now and later; "cut once" closes that one; "reset" closes every one without
    the end of a stream; "trickle" sends on byte after byte for a while. passed: the bytes from the server.
    """

    STRIKES = ("cut", "cut once", "reset", "trickle")

    def __init__(self, port: int, limit: int = 1 << 60, strike: str = "cut", host: str = "") -> None:
        super().__init__(port)
        self._host, self._left, self._strike, self._lock = host, limit, strike, threading.Lock()
        self.passed = 0

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return super()._connect()
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        self._sockets.append(server)
        return server

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            server = self._connect()
            forwarding = threading.Thread(target=self._forward, args=(client, server), daemon=True)
            forwarding.start()
            while content := server.recv(65536):
                now, later = self._divided(content)
                client.sendall(now)
                if later and self._strike == "trickle":
                    self._trickle(client, later)
                elif later or self._is_over:
                    break
            if self._strike == "reset" and self._is_over:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.shutdown(socket.SHUT_RD)
                forwarding.join()  # while another thread reads, close() does nothing
                client.close()
        self._close(client, server)

    @property
    def _is_over(self) -> bool:
        return self._left <= 0 and self._strike in ("cut", "reset")

    def _divided(self, content: bytes) -> tuple[bytes, bytes]:
        """Return what comes before the strike, and what comes after it."""
        with self._lock:
            self.passed += len(content)
            if self._left <= 0 and self._strike in ("cut once", "trickle"):
                return content, b""
            now = content[: max(self._left, 0)]
            self._left -= len(content)
            return now, content[len(now) :]

    @staticmethod
    def _trickle(client: socket.socket, content: bytes) -> None:
        for number in range(0, 300):
            client.sendall(content[number : number + 1])
            time.sleep(0.001)
        client.sendall(content[300:])

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := client.recv(65536):
                server.sendall(content)
        self._close(server)

    @staticmethod
    def _close(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
