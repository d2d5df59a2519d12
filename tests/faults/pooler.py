"""A proxy that does what PgBouncer does: it refuses start-up parameters, and transactions in statement mode."""

import contextlib
import socket
import struct
import threading

from tests.faults.loopback import LoopbackProxy

_TAKEN = {"user", "database", "client_encoding", "datestyle", "timezone", "standard_conforming_strings"} | {
    "application_name"
}
_NO_ENCRYPTION = {80877103, 80877104}


class PoolerProxy(LoopbackProxy):
    """Forwards to a port on the loopback. transactions: whether it lets a BEGIN through."""

    def __init__(self, port: int, transactions: bool = True) -> None:
        super().__init__(port)
        self._transactions = transactions
        self.refused: list[str] = []

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error):
            while True:
                length, code = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
                body = client.recv(length - 8, socket.MSG_WAITALL) if length > 8 else b""
                if code not in _NO_ENCRYPTION:
                    break
                client.sendall(b"N")
            words = body.decode().split("\0")
            unknown = [name for name in words[::2] if name and name.lower() not in _TAKEN]
            if unknown:
                self._refuse(client, f"unsupported startup parameter: {unknown[0]}")
                return
            server = self._connect()
            server.sendall(struct.pack("!II", length, code) + body)
            threading.Thread(target=self._forward, args=(server, client), daemon=True).start()
            self._forward(client, server, watched=not self._transactions)

    def _forward(self, source: socket.socket, target: socket.socket, watched: bool = False) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                if watched and content.startswith(b"Q") and b"BEGIN" in content:
                    self._refuse(source, "transaction blocks not allowed in statement pooling mode")
                    break
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)

    def _refuse(self, client: socket.socket, text: str) -> None:
        self.refused.append(text)
        fields = b"SFATAL\0C08P01\0M" + text.encode() + b"\0\0"
        client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)
        client.shutdown(socket.SHUT_RDWR)
