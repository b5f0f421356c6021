"""Conversations with a broker as text: what a client sends, frame by frame, and what RabbitMQ answered to it.

A transcript (tests/interop/transcripts/*.txt) is a list of scripts:

    == passive declare of a queue that is not there
    > 1 queue.declare(queue='%q', passive=True)
    < 1 channel.close(reply_code=404, reply_text="NOT_FOUND - no queue '%q' in vhost '/'", class_id=50, method_id=10)
    > 1 channel.close_ok()

`> 1 …` sends on channel 1 of connection a, `> b:1 …` on that of connection b; a connection is opened, with its channel 1, when it is first named. `>>` sends
together with the line that follows. What is sent is a Python expression: a method (queue.declare(…)), publish(exchange, key, body, …), header(…), body(…),
frame(…), method(…), raw(…). Lines for a connection alone: connect(…), drop(), pause(seconds). `%` stands for a prefix that no other script uses.

Answers were written by RabbitMQ (`transcripts/record`), all fields of every frame, grouped by channel. Where Godwit's answer is another one on purpose, the lines
`<g …` that follow say which, and a line `! …` at the beginning of the script says why; `<g` alone means no answer.
"""
import re
import select
import struct
import time

import pika
import pika.frame
import pika.spec

from support.wire import BODY, HEADER, HEARTBEAT, METHOD, PROTOCOL_HEADER, frame as wire_frame, method_frame

# ---- methods by name ----------------------------------------------------------------------------------------------------

def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def fields_of(method):
    """The names of a method class's arguments, in order."""
    code = method.__init__.__code__
    return [name for name in code.co_varnames[1:code.co_argcount]]


METHODS = {}     # id: (name, class)
CLASSES = {}     # "queue": {"declare": class}
for index, kind in pika.spec.methods.items():
    class_name, method_name = (snake(part) for part in kind.NAME.split("."))
    METHODS[index] = (f"{class_name}.{method_name}", kind)
    CLASSES.setdefault(class_name, {})[method_name] = kind


class Sender:
    """queue.declare(…) → the bytes of its frame, once the channel is known."""

    def __init__(self, name):
        self.methods = CLASSES[name]

    def __getattr__(self, name):
        if name not in self.methods:
            raise AttributeError(name)
        kind, defaults = self.methods[name], {}
        if kind is pika.spec.Exchange.Declare:
            defaults["type"] = "direct"   # pika's own default is none that it can encode.
        return lambda **arguments: lambda channel: method_frame(channel, kind(**{**defaults, **arguments}))


def properties_payload(properties):
    return b"".join(pika.spec.BasicProperties(**properties).encode())


def header(size, class_id=60, weight=0, raw=None, **properties):
    """A content header; `raw` is its flags and list as they are."""
    payload = struct.pack(">HHQ", class_id, weight, size) + (properties_payload(properties) if raw is None else raw)
    return lambda channel: wire_frame(HEADER, channel, payload)


def body(data):
    return lambda channel: wire_frame(BODY, channel, data.encode() if isinstance(data, str) else data)


def publish(exchange, key, data="", mandatory=False, immediate=False, raw=None, **properties):
    data = data.encode() if isinstance(data, str) else data

    def encode(channel):
        frames = method_frame(channel, pika.spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory, immediate=immediate))
        frames += header(len(data), raw=raw, **properties)(channel)
        return frames + (wire_frame(BODY, channel, data) if data else b"")
    return encode


def frame(kind, payload=b"", end=b"\xce"):
    return lambda channel: wire_frame(kind, channel, payload, end)


def method(class_id, method_id, payload=b""):
    return lambda channel: wire_frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + payload)


def raw(data):
    return lambda channel: data


def update_secret(secret, reason="renewal"):
    return method(10, 70, struct.pack(">I", len(secret)) + secret.encode() + bytes([len(reason)]) + reason.encode())


def start_ok(mechanism="PLAIN", response="\0guest\0guest", properties=None, told=True):
    capabilities = {"capabilities": {"authentication_failure_close": told, "consumer_cancel_notify": True, "connection.blocked": True}}
    return lambda channel: method_frame(channel, pika.spec.Connection.StartOk(
        client_properties=capabilities if properties is None else properties, mechanism=mechanism, response=response, locale="en_US"))


def short(text):
    """A short string's bytes."""
    data = text if isinstance(text, bytes) else text.encode()
    return bytes([len(data)]) + data


def long(data):
    """A long string's or a table's bytes."""
    return struct.pack(">I", len(data)) + data


NAMES = {"long": long, "header": header, "body": body, "publish": publish, "frame": frame, "method": method, "raw": raw, "update_secret": update_secret,
         "start_ok": start_ok, "short": short, "pack": struct.pack, **{name: Sender(name) for name in CLASSES}}

# ---- printing what came ------------------------------------------------------------------------------------------------


def field(data, at):
    """A field value of a table at `at`, as text with its type where Python's would not tell; and where it ends."""
    kind, at = chr(data[at]), at + 1
    sizes = {"t": "?", "b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d", "T": "Q"}
    if kind in sizes:
        value = struct.unpack_from(">" + sizes[kind], data, at)[0]
        at += struct.calcsize(sizes[kind])
        return (str(value) if kind == "t" else f"{kind}({'*' if kind == 'T' and value > 10**9 else value})"), at
    if kind == "V":
        return "None", at
    if kind == "D":
        return f"D({data[at]}, {struct.unpack_from('>i', data, at + 1)[0]})", at + 5
    size = struct.unpack_from(">I", data, at)[0]
    inner, end = data[at + 4:at + 4 + size], at + 4 + size
    if kind == "S":
        return text_of(inner), end
    if kind == "x":
        return f"x({text_of(inner)})", end
    if kind == "F":
        return table(inner), end
    items, at = [], 0
    while at < len(inner):
        value, at = field(inner, at)
        items.append(value)
    return "[" + ", ".join(items) + "]", end


def table(data):
    at, items = 0, []
    while at < len(data):
        size = data[at]
        name = text_of(data[at + 1:at + 1 + size])
        value, at = field(data, at + 1 + size)
        items.append(f"{name}: {value}")
    return "{" + ", ".join(items) + "}"


def text_of(data):
    try:
        return repr(data.decode())
    except UnicodeDecodeError:
        return repr(data)


PROPERTIES = ["content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration", "message_id",
              "timestamp", "type", "user_id", "app_id", "cluster_id"]


def properties_text(data):
    flags, at, items = struct.unpack(">H", data[:2])[0], 2, []
    for place, name in enumerate(PROPERTIES):
        if not flags & 1 << (15 - place):
            continue
        if name == "headers":
            size = struct.unpack_from(">I", data, at)[0]
            value, at = table(data[at + 4:at + 4 + size]), at + 4 + size
        elif name in ("delivery_mode", "priority"):
            value, at = str(data[at]), at + 1
        elif name == "timestamp":
            value, at = str(struct.unpack_from(">Q", data, at)[0]), at + 8
        else:
            value, at = text_of(data[at + 1:at + 1 + data[at]]), at + 1 + data[at]
        items.append(f"{name}={value}")
    left = f", and {data[at:]!r}" if at < len(data) else ""
    return ", ".join(items) + left


def hide(text):
    """What a broker makes up itself differs every time."""
    text = re.sub(r"amq\.gen-[-\w]+", "amq.gen-*", text)
    text = re.sub(r"amq\.ctag-[-\w]+", "amq.ctag-*", text)
    return re.sub(r"amq\.rabbitmq\.reply-to\.[-\w./=@+]+", "amq.rabbitmq.reply-to.*", text)


def frame_text(kind, payload):
    if kind == METHOD:
        index = struct.unpack(">I", payload[:4])[0]
        if index == 10 << 16 | 71:
            return "connection.update_secret_ok()"
        name, method_class = METHODS[index]
        if name == "connection.start":
            return f"connection.start(version_major={payload[4]}, version_minor={payload[5]}, …)"
        decoded = method_class()
        decoded.decode(payload, 4)
        return f"{name}({', '.join(f'{name}={getattr(decoded, name)!r}' for name in fields_of(method_class))})"
    if kind == HEADER:
        class_id, weight, size = struct.unpack(">HHQ", payload[:12])
        more = properties_text(payload[12:])
        return f"header({size}{', ' + more if more else ''})" if (class_id, weight) == (60, 0) else f"header {payload!r}"
    if kind == BODY:
        return f"body({text_of(payload) if len(payload) <= 64 else f'… {len(payload)} bytes'})"
    if kind == HEARTBEAT and not payload:
        return "heartbeat"
    return f"frame({kind}, {payload!r})"


# ---- talking ---------------------------------------------------------------------------------------------------------------


class Talker:
    """One connection of a script."""

    def __init__(self, name, port, handshake=True, channel=True, channel_max=2047, frame_max=131072, heartbeat=0, user="guest", password="guest",
                 vhost="/", host="127.0.0.1", capabilities=True):
        import socket
        self.name, self.input, self.ended = name, b"", False
        self.socket = socket.create_connection((host, port), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not handshake:
            return
        spec = pika.spec
        self.send(PROTOCOL_HEADER)
        self.demand("connection.start")
        self.send(start_ok("PLAIN", f"\0{user}\0{password}", None if capabilities else {})(0))
        self.demand("connection.tune")
        self.send(method_frame(0, spec.Connection.TuneOk(channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)))
        self.send(method_frame(0, spec.Connection.Open(virtual_host=vhost)))
        self.demand("connection.open_ok")
        if channel:
            self.send(method_frame(1, spec.Channel.Open()))
            self.demand("channel.open_ok")

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass    # The end of the connection is seen by whoever reads.

    def demand(self, name):
        deadline = time.monotonic() + 20
        while True:
            for _, text in self.frames():
                assert text.startswith(name + "("), f"{text} instead of {name}"
                return
            assert not self.ended and time.monotonic() < deadline, f"no {name}"
            self.read(1)

    def read(self, timeout_s):
        """Takes what has come; waits for it at most that long. Answers whether something came."""
        if self.ended or not select.select([self.socket], [], [], timeout_s)[0]:
            return False
        try:
            data = self.socket.recv(1 << 20)
        except OSError:
            data = b""
        self.input += data
        self.ended = not data
        return True

    def frames(self):
        """(channel, text) of the frames that are there, taken out."""
        found = []
        while True:
            if self.input[:4] == b"AMQP" and len(self.input) >= 8:
                found.append((0, f"raw({self.input[:8]!r})"))
                self.input = self.input[8:]
            if len(self.input) < 7:
                return found
            kind, channel, size = struct.unpack(">BHI", self.input[:7])
            if len(self.input) < size + 8:
                return found
            found.append((channel, frame_text(kind, self.input[7:7 + size])))
            self.input = self.input[size + 8:]


class Play:
    """Plays one script against the broker on `port`. `quiet_s`: how long nothing may come before a step is taken for answered, where the answer is not known."""

    def __init__(self, port, prefix, quiet_s=0.1):
        self.port, self.prefix, self.quiet_s = port, prefix, quiet_s
        self.talkers, self.told_end = {}, set()

    def talker(self, name):
        if name not in self.talkers:
            self.talkers[name] = Talker(name, self.port)
        return self.talkers[name]

    def do(self, step, hurry=False):
        """Carries out what a step sends. `hurry`: without pauses, since its answers are known and waited for."""
        waiting = {}
        for where, text in step.sends:
            name, _, channel = where.rpartition(":") if ":" in where or where.isdigit() else (where, "", None)
            name = name or "a"
            text = text.replace("%", self.prefix)
            if channel is None:
                for waiter, data in waiting.items():
                    self.talker(waiter).send(data)
                waiting = {}
                self.control(name, text, hurry)
                continue
            data = eval(text, dict(NAMES))(int(channel))   # The text is this project's own.
            waiting[name] = waiting.get(name, b"") + data
            self.talker(name)
        for name, data in waiting.items():
            self.talker(name).send(data)

    def control(self, name, text, hurry):
        def connect(**arguments):
            self.talkers[name] = Talker(name, self.port, **arguments)

        def drop():
            self.talkers.pop(name).socket.close()
        eval(text, {"connect": connect, "drop": drop, "pause": (lambda seconds: None) if hurry else time.sleep})

    def heard(self, count=None, timeout_s=10):
        """Lines that came: until there are `count` of them, or (None) until it is quiet."""
        found, deadline = {}, time.monotonic() + (timeout_s if count is not None else self.quiet_s)
        while True:
            for talker in self.talkers.values():
                for channel, text in talker.frames():
                    found.setdefault((talker.name, channel), []).append(text)
                if talker.ended and talker.name not in self.told_end:
                    self.told_end.add(talker.name)
                    found.setdefault((talker.name, 0), []).append("end")
            total = sum(len(texts) for texts in found.values())
            if (count is not None and total >= count) or time.monotonic() > deadline:
                break
            live = [talker for talker in self.talkers.values() if not talker.ended]
            if not live and count is None:
                break
            ready = select.select([talker.socket for talker in live], [], [], max(0.001, min(0.05, deadline - time.monotonic())))[0]
            for talker in live:
                if talker.socket in ready and talker.read(0) and count is None:
                    deadline = time.monotonic() + self.quiet_s
        return [f"{'' if name == 'a' else name + ':'}{channel} {hide(text).replace(self.prefix, '%')}"
                for (name, channel), texts in sorted(found.items()) for text in texts]

    def close(self):
        for talker in self.talkers.values():
            talker.socket.close()


# ---- transcripts ----------------------------------------------------------------------------------------------------------


class Step:
    def __init__(self):
        self.sends, self.joined = [], []        # (where, text); were they joined to the next one
        self.answers, self.godwit = [], None    # lines; None: the same

    def expected(self, against):
        return self.godwit if against == "godwit" and self.godwit is not None else self.answers


class Script:
    def __init__(self, name, line):
        self.name, self.line, self.steps, self.notes = name, line, [], []


def parse(text):
    """The scripts of a transcript, and the comment before the first one."""
    scripts, preamble, together = [], [], False
    for number, line in enumerate(text.splitlines(), 1):
        mark, _, rest = line.partition(" ")
        if mark == "==":
            scripts.append(Script(rest, number))
            together = False
        elif not scripts:
            preamble.append(line)
        elif mark in (">", ">>"):
            if not together:
                scripts[-1].steps.append(Step())
            step = scripts[-1].steps[-1]
            where, _, what = rest.partition(" ")
            step.sends.append((where, what))
            together = mark == ">>"
        elif mark == "<":
            scripts[-1].steps[-1].answers.append(rest)
        elif mark == "<g":
            step = scripts[-1].steps[-1]
            step.godwit = (step.godwit or []) + ([rest] if rest else [])
        elif mark in ("!", "#"):
            scripts[-1].notes.append(line)
        elif line:
            raise ValueError(f"line {number}: {line!r}")
    return scripts, "\n".join(preamble).strip()


def write(scripts, preamble):
    lines = [preamble] if preamble else []
    for script in scripts:
        lines += ([""] if lines else []) + [f"== {script.name}"] + script.notes
        for step in script.steps:
            for place, (where, what) in enumerate(step.sends):
                lines.append(f"{'>' if place == len(step.sends) - 1 else '>>'} {where} {what}")
            lines += [f"< {answer}" for answer in step.answers]
            if step.godwit is not None:
                lines += [f"<g {answer}" for answer in step.godwit] or ["<g"]
    return "\n".join(lines) + "\n"


def play(script, port, prefix, quiet_s=0.1, expect=None):
    """Plays a script; answers for every step the lines that came. With `expect` (a broker's name) it does not wait longer than for what is expected, except at the
    end, where it waits a little for what should not come."""
    playing = Play(port, prefix, quiet_s)
    try:
        heard = []
        for place, step in enumerate(script.steps):
            last = place == len(script.steps) - 1
            wanted = step.expected(expect) if expect else []
            playing.do(step, hurry=bool(wanted))
            lines = playing.heard(len(wanted)) if expect else []
            if expect is None or last or lines != wanted:
                lines += playing.heard()
            heard.append(lines)
            if expect and lines != wanted:
                break
        return heard
    finally:
        playing.close()
