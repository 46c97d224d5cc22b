"""What a fault can do to an exchange with the local Hub."""

import os
import socket
import struct
from collections.abc import Callable

from faults.hub_server import Exchange


def status(number: int, code: str = "", **headers: str) -> Callable[[Exchange], None]:
    """Answer with this status; `Retry_After="2"` becomes a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.refuse(number, code, named)


def cut(keep_bytes: int) -> Callable[[Exchange], None]:
    """The headers and so many bytes of the body, and then the connection ends."""

    def act(exchange: Exchange) -> None:
        exchange.keep_bytes = keep_bytes
        exchange.serve()

    return act


def altered(change: Callable[[bytes], bytes]) -> Callable[[Exchange], None]:
    """The right answer with another body."""

    def act(exchange: Exchange) -> None:
        exchange.alter = change
        exchange.serve()

    return act


def flipped(body: bytes) -> bytes:
    """The same length, one bit wrong in the last byte."""
    return body[:-1] + bytes([body[-1] ^ 1]) if body else body


def redirected(location: str) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.answer(307, {"Location": location}, b"")


def stalled(exchange: Exchange) -> None:
    """Nothing at all, until the server is shut down."""
    exchange.server.hub.leaving.wait(60)
    exchange.close_connection = True


def stalled_midway(exchange: Exchange) -> None:
    """The headers and nothing after them."""
    exchange.send_response(200)
    exchange.send_header("Content-Length", "1000000")
    exchange.end_headers()
    stalled(exchange)


def reset(exchange: Exchange) -> None:
    """The connection is torn down: the client sees ECONNRESET."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(exchange.connection.detach())
    exchange.close_connection = True
