"""A server of server-sent events, and of a page, that does what a test wants of it."""
import http.server
import threading
import time


class Events(http.server.ThreadingHTTPServer):
    """Server-sent events 1, 2, 3, … up to `count`, from the one behind Last-Event-ID on."""
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port=0):
        self.count, self.seen, self.closes, self.status, self.etags = 0, [], False, 200, []
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self):
        self.status = 0
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        if self.path.startswith("/to?"):
            self.send_response(307)
            self.send_header("Location", self.path.split("?", 1)[1])
            self.end_headers()
            return
        server.seen.append(dict(self.headers.items()))
        if self.path == "/page":
            return self.page()
        if server.status != 200:
            self.send_response(server.status)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        at = int(self.headers.get("Last-Event-ID") or 0)
        try:
            self.wfile.write(b"retry: 50\n\n")
            while server.status == 200:
                while at < server.count:
                    at += 1
                    self.wfile.write(f"id: {at}\ndata: {{\"n\": {at}}}\n\n".encode())
                if server.closes:
                    return
                time.sleep(0.01)
        except OSError:
            pass

    def page(self):
        etag = f'"{self.server.count}"'
        known = self.headers.get("If-None-Match") == etag
        self.send_response(304 if known else 200)
        self.send_header("ETag", etag)
        self.end_headers()
        if not known:
            self.wfile.write(f"page {self.server.count}".encode())

    def log_message(self, *arguments):
        pass
