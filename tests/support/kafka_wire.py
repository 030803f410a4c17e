"""As much of the Kafka protocol as it takes to knock at a listener, byte by byte, without a client's help."""

from __future__ import annotations

import socket
import struct

from civicbus.infra.ports import LOOPBACK

METADATA, SASL_HANDSHAKE, SASL_AUTHENTICATE = 3, 17, 36
UNSUPPORTED_SASL_MECHANISM, SASL_AUTHENTICATION_FAILED = 33, 58
_TIMEOUT_S = 5.0


class Peer:
    """A connection to a listener."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=_TIMEOUT_S)

    def ask(self, kind: int, version: int, body: bytes) -> bytes | None:
        """The body of the answer, or None where the listener hangs up instead of answering."""
        request = struct.pack(">hhi", kind, version, 1) + _string("test") + body
        self._socket.sendall(struct.pack(">i", len(request)) + request)
        size = self._receive(4)
        if size is None:
            return None
        answer = self._receive(struct.unpack(">i", size)[0])
        return None if answer is None else answer[4:]

    def handshake(self, mechanism: str) -> int | None:
        """The error code that the listener gives to this mechanism; 0 is none."""
        return _error(self.ask(SASL_HANDSHAKE, 1, _string(mechanism)))

    def log_in(self, user: str, password: str) -> int | None:
        """The error code of a login with PLAIN; 0 is none."""
        token = f"\0{user}\0{password}".encode()
        return _error(self.ask(SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token))

    def metadata(self) -> bytes | None:
        """The answer to the simplest question about the cluster."""
        return self.ask(METADATA, 0, struct.pack(">i", 0))

    def close(self) -> None:
        self._socket.close()

    def _receive(self, size: int) -> bytes | None:
        received = b""
        while len(received) < size:
            try:
                more = self._socket.recv(size - len(received))
            except ConnectionResetError:
                return None
            if not more:
                return None
            received += more
        return received


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _error(answer: bytes | None) -> int | None:
    if answer is None:
        return None
    (code,) = struct.unpack_from(">h", answer)
    return int(code)
