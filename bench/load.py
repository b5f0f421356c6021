"""The load generators of this folder that are written in C, from Python: built, started, and the broker's processor time read beside them."""
import json
import os
import subprocess

from rows import HERE

BUILD = os.path.join(os.path.dirname(HERE), "build")
AUTHORIZATION = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q="
EVENT_HEADERS = tuple(word for header in ("ce-specversion: 1.0", "ce-id: %N%", "ce-source: /bench", "ce-type: bench.told", "Content-Type: application/octet-stream", AUTHORIZATION)
                      for word in ("--header", header))


def program(name):
    return os.path.join(BUILD, "src", "cli", name)


def build(*names):
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        subprocess.run(["meson", "setup", BUILD, "-Dtests=true"], check=True, stdout=subprocess.DEVNULL, cwd=os.path.dirname(HERE))
    subprocess.run(["meson", "configure", BUILD, "-Dtests=true"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", BUILD, "godwit", *(f"src/cli/{name}" for name in names)], check=True, stdout=subprocess.DEVNULL)


class Load:
    """A program that says what it has to say in lines of JSON."""

    def __init__(self, name, *arguments):
        self.process = subprocess.Popen([program(name), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(line)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()


def http_load(broker, port, *arguments, connections, seconds, size, warmup=1.0):
    """Rate and latencies of a run, and the broker's CPU seconds per million requests of it."""
    with Load("http_load", "--port", str(port), "--connections", str(connections), "--seconds", str(seconds), "--warmup", str(warmup), "--size", str(size), *arguments) as load:
        load.hear()
        before = broker.cpu_seconds()
        result = load.hear()
        cpu = broker.cpu_seconds() - before
    if result["refused"] or not result["answers"]:
        raise RuntimeError(f"{result['refused']} of {result['answers']} requests were refused: {result['complaint']}")
    return {"cpu": cpu / result["answers"] * 1e6, "rate": result["rate"], "p50_us": result["p50_us"], "p99_us": result["p99_us"]}
