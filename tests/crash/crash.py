#!/usr/bin/python3 -B
"""Kills the real broker at random instants under load, starts it again, and proves that it kept its word.

    tests/crash/crash.py [--rounds N | --seconds S] [--seed S] [--against rabbitmq]

Publishers send persistent messages with confirms, consumers acknowledge some of what they get, and now and then a consumer publishes a
barrier behind its acknowledgements: when that is confirmed, the acknowledgements before it are on disk. After every SIGKILL and
restart the queues are looked through without acknowledging, and then the load goes on upon what is there. What must hold:

  - a message that was confirmed and never acknowledged is there,
  - a message whose acknowledgement is behind a confirmed barrier is not,
  - nothing is there that was not published, nothing twice, every body as it was sent,
  - of one publisher to one queue, messages that nobody had got before are in order,
  - a message that somebody had got before says that it is redelivered.

SIGKILL ends the program, not the machine: what the kernel had been handed survives. The loss of power is the simulator's part.
The last line is `N passed, N failed`: rounds.
"""
import argparse
import hashlib
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from client import Closed, Link, method_of, read_deliver, spec, tag_of, METHOD, BODY, ACK, NACK, DELIVER, CLOSE, CHANNEL_CLOSE
from support.broker import StartFailure, make_broker

WINDOW = 300


class Message:
    __slots__ = ("queue", "size", "confirmed", "delivered", "acknowledged", "synced")

    def __init__(self, queue, size):
        self.queue, self.size = queue, size
        self.confirmed = self.delivered = self.acknowledged = self.synced = False


class Ledger:
    """What was sent and what became of it. Bodies are made from their names, so none is kept."""

    def __init__(self):
        self.messages = {}
        self.errors = []
        self.barriers = 0

    def body(self, name, size):
        text = name.encode() + b" "
        digest = hashlib.sha256(text).digest()
        return (text + digest * (size // 32 + 1))[:len(text) + size]

    def name_of(self, body):
        return body.split(b" ", 1)[0].decode(errors="replace")

    def complain(self, sentence):
        self.errors.append(sentence)

    def delivery(self, queue, body, redelivered, strict):
        """Judges one delivery; answers the message, or None."""
        name = self.name_of(body)
        message = self.messages.get(name)
        if message is None:
            self.complain(f"{queue}: '{name[:60]}' was never published")
            return None
        if message.queue != queue:
            self.complain(f"{name}: in {queue}, published to {message.queue}")
        if body != self.body(name, message.size):
            self.complain(f"{name}: the body is another one")
        if message.synced:
            self.complain(f"{name}: is back though its acknowledgement was synced")
        if strict and message.delivered and not redelivered:
            self.complain(f"{name}: delivered again without the redelivered flag")
        message.delivered = True
        return message


class Worker(threading.Thread):
    """A connection and its thread; ends when the broker does."""

    def __init__(self, load, number):
        super().__init__(daemon=True)
        self.load, self.number = load, number
        self.random = random.Random(f"{load.seed}/{load.round}/{type(self).__name__}/{number}")

    def run(self):
        try:
            self.link = Link(self.load.port)
            self.work()
        except (Closed, OSError):
            pass
        except Exception as error:
            self.load.ledger.complain(f"{type(self).__name__}: {type(error).__name__}: {error}")


class Publisher(Worker):
    def work(self):
        waiting, sequence = {}, 0
        queues = self.load.queues
        try:
            while True:
                while len(waiting) < WINDOW and not self.load.stopping.is_set():
                    queue = queues[self.random.randrange(len(queues))]
                    name = f"p{self.load.round}.{self.number}.{sequence}"
                    size = self.random.choice((0, 10, 100, 1000, 1000, 5000, 40000 if sequence % 50 else 300000))
                    sequence += 1
                    message = self.load.ledger.messages[name] = Message(queue, size)
                    waiting[self.link.publish_persistent(queue, self.load.ledger.body(name, size))] = message
                    if self.random.random() < 0.02:
                        break
                settle(self.link.wait_frames(0.5), waiting, self.load.ledger)
                if self.load.stopping.is_set() and not waiting:
                    return
        except (Closed, OSError):
            # What the broker had said before it died still counts.
            try:
                while True:
                    settle(self.link.wait_frames(5), waiting, self.load.ledger)
            except (Closed, OSError):
                pass


def settle(frames, waiting, ledger, on_confirm=None):
    for kind, payload in frames:
        if kind != METHOD:
            continue
        method = method_of(payload)
        if method == ACK:
            tag, multiple = tag_of(payload)
            for covered in [key for key in waiting if key <= tag] if multiple else [tag]:
                message = waiting.pop(covered)
                message.confirmed = True
        elif method == NACK:
            tag, multiple = tag_of(payload)
            for covered in [key for key in waiting if key <= tag] if multiple else [tag]:
                waiting.pop(covered)
        elif method in (CLOSE, CHANNEL_CLOSE):
            ledger.complain(f"a channel or connection was closed: {payload!r}")


class Consumer(Worker):
    """Acknowledges most of what comes from one queue, in clumps, and puts a barrier behind some of them."""

    def work(self):
        link, ledger = self.link, self.load.ledger
        queue = self.load.queues[self.number % len(self.load.queues)]
        link.call(spec.Basic.Qos(prefetch_count=100), spec.Basic.QosOk)
        link.call(spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
        held, waiting, covers, barriers = {}, {}, {}, 0
        delivery, body, frames = None, b"", []
        while True:
            for kind, payload in frames:
                method = method_of(payload) if kind == METHOD else None
                if method == DELIVER:
                    delivery, body = read_deliver(payload), None
                elif kind == 2:
                    body, size = b"", int.from_bytes(payload[4:12], "big")
                elif kind == BODY:
                    body += payload
                elif method:
                    before = set(waiting)
                    settle([(kind, payload)], waiting, ledger)
                    for tag in before - set(waiting):
                        for message in covers.pop(tag):
                            message.synced = True
                        ledger.barriers += 1
                if delivery and body is not None and len(body) == size:
                    message = ledger.delivery(queue, body, delivery[1], self.load.strict)
                    if message:
                        held[delivery[0]] = message
                    delivery = None
            acknowledged = []
            for tag in list(held):
                if self.random.random() < 0.9:
                    message = held.pop(tag)
                    message.acknowledged = True
                    acknowledged.append(message)
                    link.send(1, spec.Basic.Ack(delivery_tag=tag))
                elif self.random.random() < 0.3:
                    held.pop(tag)
                    link.send(1, spec.Basic.Nack(delivery_tag=tag, requeue=True))
            if acknowledged and self.random.random() < 0.5:
                name = f"b{self.load.round}.{self.number}.{barriers}"
                barriers += 1
                message = ledger.messages[name] = Message(queue, 0)
                tag = link.publish_persistent(queue, ledger.body(name, 0))
                waiting[tag], covers[tag] = message, acknowledged
            if self.load.stopping.is_set() and not waiting:
                return
            try:
                frames = link.wait_frames(0.5)
            except Closed:
                return


class Load:
    """One life of the broker."""

    def __init__(self, broker, ledger, options, round_number):
        self.port, self.ledger, self.seed, self.round = broker.port, ledger, options.seed, round_number
        self.queues = [f"crash-{index}" for index in range(options.queues)]
        self.strict = options.against == "godwit"
        self.stopping = threading.Event()
        self.workers = [Publisher(self, index) for index in range(options.publishers)] + \
                       [Consumer(self, index) for index in range(options.consumers)]

    def start(self):
        link = Link(self.port)
        for queue in self.queues:
            link.call(spec.Queue.Declare(queue=queue, durable=True), spec.Queue.DeclareOk)
        link.abort()
        for worker in self.workers:
            worker.start()

    def join(self):
        for worker in self.workers:
            worker.join(60)
            if worker.is_alive():
                self.ledger.complain(f"{type(worker).__name__} did not notice the end")
            elif hasattr(worker, "link"):
                worker.link.close()


def read_queue(port, queue, ledger, strict):
    """Names of what is in a queue, in order, with their flags; everything goes back."""
    link = Link(port)
    count = link.call(spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk).message_count
    link.call(spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
    found, delivery, body, size = [], None, None, 0
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        for kind, payload in link.wait_frames(5):
            if kind == METHOD and method_of(payload) == DELIVER:
                delivery, body = read_deliver(payload), None
            elif kind == 2:
                body, size = b"", int.from_bytes(payload[4:12], "big")
            elif kind == BODY:
                body += payload
            if delivery and body is not None and len(body) == size:
                name = ledger.name_of(body)
                new = name in ledger.messages and not ledger.messages[name].delivered
                ledger.delivery(queue, body, delivery[1], strict)
                found.append((name, new))
                delivery = None
    if len(found) < count:
        ledger.complain(f"{queue}: says it holds {count} messages and gave {len(found)}")
    link.abort()
    return found


def verify(broker, ledger, load):
    """Looks through all queues after a restart. Answers how many messages wait."""
    present = {}
    for queue in load.queues:
        last = {}
        for name, new in read_queue(broker.port, queue, ledger, load.strict):
            if name in present:
                ledger.complain(f"{name}: is there twice, in {present[name]} and {queue}")
            present[name] = queue
            stream, _, sequence = name.rpartition(".")
            if new and sequence.isdigit():
                if int(sequence) < last.get(stream, -1):
                    ledger.complain(f"{name}: comes after {stream}.{last[stream]}")
                last[stream] = int(sequence)
    for name, message in ledger.messages.items():
        if message.confirmed and not message.acknowledged and name not in present:
            ledger.complain(f"{name}: was confirmed, never acknowledged, and is lost")
    # What is neither there nor owed is settled for good: unconfirmed and lost, or acknowledged.
    for name in [name for name, message in ledger.messages.items() if name not in present and not message.synced]:
        message = ledger.messages[name]
        message.synced = message.acknowledged = True
    return len(present)


def one_round(broker, ledger, options, number, chance):
    load = Load(broker, ledger, options, number)
    load.start()
    time.sleep(chance.choice((0.05, 0.3, 1.0, 2.0)) * (0.2 + chance.random()))
    broker.kill()
    load.join()
    begin = time.monotonic()
    broker.start()
    return load, time.monotonic() - begin


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=0, help="how often to kill the broker")
    parser.add_argument("--seconds", type=float, default=0, help="go on for so long instead (the round that runs is finished)")
    parser.add_argument("--seed", type=int, default=None, help="for the instants and the load; printed")
    parser.add_argument("--publishers", type=int, default=3)
    parser.add_argument("--consumers", type=int, default=3)
    parser.add_argument("--queues", type=int, default=4)
    parser.add_argument("--reactors", type=int, default=2)
    parser.add_argument("--against", choices=["godwit", "rabbitmq"], default="godwit")
    parser.add_argument("--option", action="append", default=[], help="an option of godwit serve, e.g. --option=--log-file-size=1Mi")
    options = parser.parse_args()
    if not options.rounds and not options.seconds:
        options.rounds = 20
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 31)
    return options


def main():
    options = read_options()
    more = {"reactors": options.reactors, "options": options.option} if options.against == "godwit" else {}
    broker, ledger, chance = make_broker(options.against, **more), Ledger(), random.Random(options.seed)
    print(f"seed {options.seed}, data in {broker.data_dir}", flush=True)
    passed = failed = 0
    deadline = time.monotonic() + options.seconds
    try:
        broker.start()
        while failed == 0 and (passed < options.rounds if options.rounds else time.monotonic() < deadline):
            load, start_s = one_round(broker, ledger, options, passed, chance)
            waiting = verify(broker, ledger, load)
            confirmed = sum(message.confirmed for message in ledger.messages.values())
            passed, failed = passed + (not ledger.errors), failed + bool(ledger.errors)
            print(f"round {passed + failed}: {len(ledger.messages)} published, {confirmed} confirmed, {ledger.barriers} barriers, "
                  f"{waiting} waiting, started in {start_s:.3f} s", flush=True)
    except StartFailure as error:
        ledger.complain(str(error))
        failed += 1
    for sentence in ledger.errors[:40]:
        print("  " + sentence)
    if failed:
        print(f"{len(ledger.errors)} errors; the data directory is kept: {broker.data_dir}, its log: {broker.log_path}")
        broker.kill()
    else:
        broker.discard()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
