"""What tests of HTTP say byte by byte, and what they expect back."""
import json
import socket

from harness import PATIENCE, event

CLICKS = "/api/v1/clicks"
PIXEL = "/api/v1/pixel.gif"
DEBUG = "/api/v1/debug/clicks"


class Raw:
    """A connection on which a test says every byte itself."""

    def __init__(self, made):
        self.socket = socket.create_connection(made.http[0], timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def fill(self):
        chunk = self.socket.recv(65536)
        self.buffer += chunk
        return chunk

    def answer(self, head=False):
        """(status, headers in lower case, body) of the next answer; (0, {}, b"") when the connection ends instead."""
        try:
            while b"\r\n\r\n" not in self.buffer:
                if not self.fill():
                    assert not self.buffer, f"the connection ended within an answer: {self.buffer!r}"
                    return 0, {}, b""
        except ConnectionResetError:
            return 0, {}, b""
        top, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = top.decode("latin-1").split("\r\n")
        assert lines[0].startswith("HTTP/1.1 "), lines[0]
        status = int(lines[0][9:12])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        length = 0 if head or status < 200 or status in (204, 304) else int(headers["content-length"])
        if status < 200 or status == 204:
            assert "content-length" not in headers and "transfer-encoding" not in headers, headers
        while len(self.buffer) < length:
            assert self.fill(), "the connection ended within a body"
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status, headers, body

    def closed(self):
        """True if the peer closes now and says nothing more."""
        try:
            return not self.buffer and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.socket.close()


def request(method="POST", target=CLICKS, body=None, *lines, version="HTTP/1.1", host=True):
    """The bytes of a request; `lines` are header lines. A body brings its Content-Length."""
    head = [f"{method} {target} {version}"] + (["Host: a"] if host else []) + list(lines)
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + (body or b"")


def chunked(body, sizes=(7,), extension=b"", trailers=b""):
    out, at, turn = b"", 0, 0
    while at < len(body):
        piece = body[at:at + sizes[turn % len(sizes)]]
        out += b"%x%s\r\n%s\r\n" % (len(piece), extension, piece)
        at += len(piece)
        turn += 1
    return out + b"0" + extension + b"\r\n" + trailers + b"\r\n"


def one():
    return json.dumps(event()).encode()


def problem(what, answer, status, same):
    """An error is problem+json that says its own status."""
    got, headers, body = answer
    same(f"{what}: status", got, status)
    if got >= 400:
        same(f"{what}: content type", headers.get("content-type"), "application/problem+json")
        document = json.loads(body)
        same(f"{what}: document", (document["status"], bool(document["type"]), bool(document["title"])), (got, True, True))
