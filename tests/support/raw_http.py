"""HTTP as no client would say it: bytes to a socket, and the answers taken apart."""
import socket


class Raw:
    """A connection to an HTTP server, of which nothing is assumed."""

    def __init__(self, port, limit_s=15, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(limit_s)
        self.socket.connect(("127.0.0.1", port))
        self.heard = b""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def say(self, data, step=None):
        for at in range(0, len(data), step or len(data) or 1):
            self.socket.sendall(data[at:at + (step or len(data))])

    def more(self):
        piece = self.socket.recv(65536)
        assert piece, f"the connection was closed; what came before: {self.heard!r}"
        self.heard += piece

    def take(self, size):
        while len(self.heard) < size:
            self.more()
        taken, self.heard = self.heard[:size], self.heard[size:]
        return taken

    def line(self):
        while b"\r\n" not in self.heard:
            self.more()
        return self.take(self.heard.index(b"\r\n") + 2)[:-2].decode("latin-1")

    def answer(self, method="GET"):
        """(status, headers, body) of the next answer."""
        version, status, *_ = self.line().split(" ")
        assert version == "HTTP/1.1"
        headers = {}
        while line := self.line():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = b""
        if method == "HEAD" or status in ("204", "304") or status[0] == "1":
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self.line(), 16):
                body += self.take(size)
                self.take(2)
            self.take(2)
        elif "content-length" in headers:
            body = self.take(int(headers["content-length"]))
        else:
            body = self.rest()
        return int(status), headers, body

    def rest(self):
        """What comes until the peer closes. A reset is none of its manners."""
        while piece := self.socket.recv(65536):
            self.heard += piece
        rest, self.heard = self.heard, b""
        return rest
