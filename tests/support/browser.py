"""A real browser without a window, driven by its DevTools protocol: pages of any origin, and what their scripts answer."""
import atexit
import functools
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading

import websocket

PROGRAMS = ["chromium-headless-shell", "chromium"]


class ScriptFailed(Exception):
    pass


class Pages:
    """Serves an empty page. It has two origins, since a browser tells names apart: `http://127.0.0.1:PORT` and `http://localhost:PORT`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"<!DOCTYPE html><title>page</title>"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages.Handler)
        self.server.daemon_threads = True
        self.numeric, self.named = (f"http://{host}:{self.server.server_port}" for host in ("127.0.0.1", "localhost"))
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Page:
    def __init__(self, browser, target):
        self.browser, self.target = browser, target
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def run(self, script, **values):
        """The value of the body of an async function, in which `values` are constants."""
        constants = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        found = self.browser.call("Runtime.evaluate", self.session, expression=f"(async () => {{ {constants} {script} }})()", awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise ScriptFailed(found["exceptionDetails"].get("exception", {}).get("description", str(found)))
        return found["result"].get("value")

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)


class Browser:
    """It takes any certificate: what other clients prove of those is not its business here."""

    def __init__(self):
        program = next((path for path in map(shutil.which, PROGRAMS) if path), PROGRAMS[0])
        self.profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        self.process = subprocess.Popen([program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                                         "--ignore-certificate-errors", "--remote-debugging-port=0", f"--user-data-dir={self.profile.name}", "about:blank"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        atexit.register(self.kill)
        address = next((found[1] for line in self.process.stderr if (found := re.search(r"DevTools listening on (ws://\S+)", line))), None)
        assert address, "the browser did not start"
        threading.Thread(target=functools.partial(self.process.stderr.read), daemon=True).start()
        self.socket = websocket.create_connection(address, timeout=30, suppress_origin=True)
        self.calls = 0

    def call(self, method, session=None, **parameters):
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters, **({"sessionId": session} if session else {})}))
        while True:   # what it tells of its own accord is passed over
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.calls:
                if "error" in answer:
                    raise ScriptFailed(f"{method}: {answer['error']}")
                return answer["result"]

    def page(self, url):
        page = Page(self, self.call("Target.createTarget", url="about:blank")["targetId"])
        self.call("Page.enable", page.session)
        self.call("Page.navigate", page.session, url=url)
        while page.run("return [document.readyState, location.href]") != ["complete", url]:
            pass
        return page

    def kill(self):
        """All of it: the program is a script that waits for another one."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def close(self):
        self.socket.close()
        self.kill()
        atexit.unregister(self.kill)
        self.profile.cleanup()
