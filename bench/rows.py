"""What bench/compare measures: rows of one table. A row measures one figure or more of one broker and answers them by name."""
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests"))

from support.broker import Godwit, RabbitMQ, godwit_binary, make_broker   # noqa: E402


def bench(broker, *options, timeout_s=900):
    """Runs godwit bench against a broker; answers its report."""
    command = [godwit_binary(), "bench", "--json", "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/", "--pid",
               str(broker.broker_pid()), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout_s)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


class Row:
    """`figures`: name → (unit, how many digits, Godwit's goal as text)."""

    def __init__(self, title, figures, measure):
        self.title, self.figures, self.measure = title, figures, measure


def flow(title, *options, goal):
    def measure(broker, seconds):
        report = bench(broker, "--duration", f"{seconds}s", *options)
        return {"cpu": report["broker_process"]["cpu_s_per_million_delivered"], "rate": report["consume_rate"]}
    return Row(title, {"cpu": ("CPU s/M", 3, goal[0]), "rate": ("messages/s", 0, goal[1])}, measure)


PERSISTENT = ("--persistent", "--confirms", "1000", "--manual-ack", "--ack-every", "100")


def latency(broker, seconds):
    report = bench(broker, "--duration", f"{seconds + 1}s", "--warmup", "1s", "--rate", "5000", "--echo-floor")
    times, floor = report["latency_us"], report["echo_us"]
    return {"p50": times["p50"], "p99": times["p99"], "p50_floor": times["p50"] / floor["p50"], "p99_floor": times["p99"] / floor["p99"]}


def confirm_latency(broker, seconds):
    report = bench(broker, "--duration", f"{seconds + 1}s", "--warmup", "1s", "--rate", "5000", "--echo-floor", "--sync-floor", broker.data_dir,
                   *PERSISTENT)
    floor = report["sync_us"]["p50"] + 2 * report["echo_us"]["p50"]
    return {"p50": report["confirm_us"]["p50"], "p99": report["confirm_us"]["p99"], "floor": floor}


def backlog(broker, seconds, messages=1_000_000):
    before = broker.memory_kib()["RssAnon"]
    bench(broker, "--scenario", "backlog", "--messages", str(messages), "--size", "1024", "--persistent", "--keep", timeout_s=1800)
    time.sleep(2)
    anonymous = broker.memory_kib()["RssAnon"]
    broker.kill()
    begin = time.monotonic()
    broker.start(timeout_s=300)
    started = time.monotonic() - begin
    return {"anonymous": anonymous / 1024, "added": (anonymous - before) / 1024, "start": started}


def idle(broker, seconds):
    time.sleep(2)
    before = broker.memory_kib()["RssAnon"] / 1024
    report = bench(broker, "--scenario", "connections", "--count", "1000")
    return {"program": before, "connection": report["memory"]["anonymous_bytes_each"] / 1024}


def declare(broker, seconds):
    report = bench(broker, "--scenario", "declare", "--persistent", "--count", "10000", timeout_s=300)
    return {"time": report["declare_s"], "each": report["memory"]["anonymous_bytes_each"] / 1024}


ROWS = {
    "16-transient": flow("16 B transient, auto-ack", "--size", "16", goal=("≤ 0.15", "≥ 4M")),
    "1k-transient": flow("1 KiB transient, auto-ack", "--size", "1024", goal=("≤ 0.6", "≥ 1.5M")),
    "16-persistent": flow("16 B persistent, confirms (window 1000), ack every 100", "--size", "16", *PERSISTENT, goal=("≤ 0.30", "≥ 2M")),
    "1k-persistent": flow("1 KiB persistent, the same", "--size", "1024", *PERSISTENT, goal=("≤ 1.0", "≥ 700k")),
    "fanout": flow("16 B fanout 1→10, per message delivered", "--size", "16", "--exchange-type", "fanout", "--queues", "10",
                   "--consumers", "10", goal=("≤ 0.12", "")),
    "latency": Row("5,000/s transient, end to end", {
        "p50": ("µs p50", 0, ""), "p99": ("µs p99", 0, ""), "p50_floor": ("p50 / bare echo", 1, "≤ 2"),
        "p99_floor": ("p99 / bare echo", 1, "≤ 2.5")}, latency),
    "confirm": Row("5,000/s persistent, confirm", {
        "p50": ("µs p50", 0, "≤ floor"), "p99": ("µs p99", 0, ""), "floor": ("µs floor: a synced write + 2 echoes", 0, "")}, confirm_latency),
    "backlog": Row("1M × 1 KiB backlog", {
        "anonymous": ("MiB anonymous", 1, "≤ 16"), "added": ("MiB more than empty", 1, ""), "start": ("s to start after SIGKILL", 2, "≤ 0.1")},
        backlog),
    "idle": Row("idle program, idle connection with a channel", {
        "program": ("MiB anonymous", 1, "≤ 8"), "connection": ("KiB a connection", 1, "≤ 6")}, idle),
    "declare": Row("declare 10,000 durable queues, pipelined", {"time": ("s", 2, "≤ 1"), "each": ("KiB each", 2, "≤ 2")}, declare),
}

__all__ = ["ROWS", "bench", "Godwit", "RabbitMQ", "make_broker", "godwit_binary"]
