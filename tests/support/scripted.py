"""A server that answers each request with the bytes that a test has for it, whatever HTTP says."""
import socket
import threading
import time


class Scripted:
    """`script(connection, request, number)` answers; the connection is closed behind it."""

    def __init__(self, script):
        self.script, self.requests, self.times = script, [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def stop(self):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            request = b""
            try:
                while b"\r\n\r\n" not in request:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    request += piece
                self.times.append(time.monotonic())
                self.requests.append(request.decode("latin-1").split("\r\n")[:-2])
                self.script(connection, request, len(self.requests))
            except OSError:
                pass
