"""libgodwit in Python, by way of cffi: the header is read as it is, nothing is compiled.

    import godwit
    loop = godwit.Loop()
    bus = loop.open("orders.gw")                       # or loop.connect("amqp://localhost")
    bus.on("order.*", print_order, retries=5)          # an exception in print_order has the event come again
    bus.publish("order.created", b"{}")
    loop.run()

GODWIT_LIBRARY and GODWIT_HEADER say where the library and its header are, when they are not installed.
"""
import os
import re
import select
import sys
import traceback

import cffi

HEADER = os.environ.get("GODWIT_HEADER", "/usr/include/godwit.h")
LIBRARY = os.environ.get("GODWIT_LIBRARY", "libgodwit.so.0")


def declarations(path):
    """What cffi understands of the header: it has no preprocessor of its own."""
    with open(path) as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.S)
    constants = dict(re.findall(r"^#define (GW_\w+) \(?(-?\w+)\)?$", text, re.M))
    return re.sub(r"^\s*#.*$", "", text, flags=re.M).replace("GW_API ", ""), constants


ffi = cffi.FFI()
text, CONSTANTS = declarations(HEADER)
ffi.cdef(text)
lib = ffi.dlopen(LIBRARY)
NO_RETRIES, RETRY_FOREVER = -1, 2**31 - 1


class Error(Exception):
    def __init__(self, result, sentence=""):
        super().__init__(sentence or text_of(lib.gw_result_text(result)))
        self.result = result


def text_of(pointer):
    return None if pointer == ffi.NULL else ffi.string(pointer).decode()


class Options:
    """A structure of options, and what its pointers point to: it must be kept until the call it is for has returned."""

    def __init__(self, kind, values):
        self.struct, self.kept = ffi.new(f"{kind} *"), []
        for name, value in values.items():
            self.put(name, value)

    def keep(self, made):
        self.kept.append(made)
        return made

    def put(self, name, value):
        if name == "headers":
            pairs = [(self.keep(ffi.new("char[]", key.encode())), self.keep(ffi.new("char[]", str(text).encode()))) for key, text in value.items()]
            self.struct.headers = self.keep(ffi.new("gw_header[]", pairs))
            self.struct.header_count = len(pairs)
        elif name == "retry_delays_ms":
            self.struct.retry_delays_ms = self.keep(ffi.new("uint64_t[]", list(value)))
            self.struct.retry_delay_count = len(value)
        else:
            setattr(self.struct, name, self.keep(ffi.new("char[]", value.encode())) if isinstance(value, str) else value)


class Event:
    """An event in hand: acknowledged when its handler returns, unless that has said something else, or keeps it (`later`)."""

    def __init__(self, pointer):
        self.pointer, self.kept = pointer, False
        self.type, self.id, self.source, self.subject = (text_of(getattr(lib, f"gw_event_{name}")(pointer)) for name in ("type", "id", "source", "subject"))
        self.content_type, self.key = text_of(lib.gw_event_content_type(pointer)), text_of(lib.gw_event_key(pointer))
        self.data = bytes(ffi.buffer(lib.gw_event_data(pointer), lib.gw_event_size(pointer)))
        self.attempt, self.redelivered = lib.gw_event_attempt(pointer), bool(lib.gw_event_redelivered(pointer))
        self.time_ms, self.priority = lib.gw_event_time_ms(pointer), lib.gw_event_priority(pointer)

    def header(self, name):
        return text_of(lib.gw_event_header(self.pointer, name.encode()))

    def answer(self, function, *arguments):
        if self.pointer is not None:
            pointer, self.pointer = self.pointer, None
            return function(pointer, *arguments)

    def ack(self):
        self.answer(lib.gw_event_ack)

    def retry(self, after_ms=None):
        self.answer(lib.gw_event_retry) if after_ms is None else self.answer(lib.gw_event_retry_after, after_ms)

    def reject(self):
        self.answer(lib.gw_event_reject)

    def reply(self, data):
        return self.answer(lib.gw_event_reply, data, len(data))

    def later(self):
        """It is answered after the handler has returned."""
        self.kept = True
        return self


# One C function for all callbacks of a kind; its context says which Python function is meant.
@ffi.callback("void(gw_event *, void *)")
def on_event(pointer, context):
    handler, event = ffi.from_handle(context), Event(pointer)
    try:
        handler.function(event)
        if not event.kept:
            event.ack()
    except Exception:
        traceback.print_exc()
        event.retry()


@ffi.callback("void(void *, int)")
def on_result(context, result):
    call = ffi.from_handle(context)
    call.bus.calls.discard(call)
    try:
        call.function(result)
    except Exception:
        traceback.print_exc()


@ffi.callback("void(void *, int, void *, size_t)")
def on_reply(context, result, data, size):
    call = ffi.from_handle(context)
    call.bus.calls.discard(call)
    try:
        call.function(result, bytes(ffi.buffer(data, size)) if result == 0 else None)
    except Exception:
        traceback.print_exc()


@ffi.callback("void(gw_timer *, void *)")
def on_timer(timer, context):
    try:
        ffi.from_handle(context).function()
    except Exception:
        traceback.print_exc()


@ffi.callback("void(void *, int, char *)")
def on_notice(context, level, sentence):
    sys.stderr.write(f"godwit: {ffi.string(sentence).decode()}\n")


class Call:
    """A Python function that C will call, kept alive until then."""

    def __init__(self, bus, function):
        self.bus, self.function, self.pointer, self.handle = bus, function, ffi.NULL, ffi.new_handle(self)


class Bus:
    def __init__(self, loop, pointer):
        self.loop, self.pointer, self.calls = loop, pointer, set()

    def kept(self, function):
        call = Call(self, function)
        self.calls.add(call)
        return call

    def check(self, result, call=None):
        if result < 0:
            self.calls.discard(call)
            raise Error(result, text_of(lib.gw_error(self.loop.pointer)))

    def publish(self, type, data=b"", published=None, **options):
        """`published(result)` is called when it is durable."""
        call, said = self.kept(published) if published else None, Options("gw_publish_options", options)
        self.check(lib.gw_publish(self.pointer, type.encode(), data, len(data), said.struct, on_result if call else ffi.NULL, call.handle if call else ffi.NULL), call)

    def publish_wait(self, type, data=b"", timeout_ms=-1, **options):
        said = Options("gw_publish_options", options)
        self.check(lib.gw_publish_wait(self.pointer, type.encode(), data, len(data), said.struct, timeout_ms))

    def on(self, pattern, function, **options):
        call, said = self.kept(function), Options("gw_handler_options", options)
        call.pointer = lib.gw_on(self.pointer, pattern.encode(), on_event, call.handle, said.struct)
        if call.pointer == ffi.NULL:
            self.calls.discard(call)
            raise Error(lib.GW_E_REFUSED, text_of(lib.gw_error(self.loop.pointer)))
        return call

    def off(self, call):
        lib.gw_off(call.pointer)

    def request(self, type, data, replied, timeout_ms=0):
        call, said = self.kept(replied), Options("gw_request_options", {"timeout_ms": timeout_ms})
        self.check(lib.gw_request(self.pointer, type.encode(), data, len(data), said.struct, on_reply, call.handle), call)

    def close(self, grace_ms=5000, closed=lambda result: None):
        lib.gw_close(self.pointer, grace_ms, on_result, self.kept(closed).handle)


class Loop:
    def __init__(self):
        self.pointer, self.buses, self.timers, self.running = lib.gw_loop_new(), [], [], False

    def made(self, pointer):
        if pointer == ffi.NULL:
            raise Error(lib.GW_E_INVALID, text_of(lib.gw_error(self.pointer)))
        self.buses.append(Bus(self, pointer))
        return self.buses[-1]

    def open(self, directory, **options):
        said = Options("gw_open_options", {"notice": on_notice, **options})
        return self.made(lib.gw_open(self.pointer, os.fsencode(directory), said.struct))

    def connect(self, uri, **options):
        said = Options("gw_connect_options", {"notice": on_notice, **options})
        return self.made(lib.gw_connect(self.pointer, uri.encode(), said.struct))

    def bus(self, where):
        return self.connect(where) if where.startswith("amqp") else self.open(where)

    def timer(self, after_ms, function, every_ms=0):
        call = Call(self, function)
        self.timers.append(call)
        call.pointer = lib.gw_timer_start(self.pointer, after_ms, every_ms, on_timer, call.handle)
        return call

    def step(self):
        return lib.gw_loop_step(self.pointer) == 1

    def run(self):
        """Waits with Python's own select, so that signals and Ctrl-C are heard. gw_loop_fd is as good for asyncio's add_reader."""
        descriptor, self.running = lib.gw_loop_fd(self.pointer), True
        while self.running and self.step():
            wait_ms = lib.gw_loop_timeout_ms(self.pointer)
            select.select([descriptor], [], [], None if wait_ms < 0 else wait_ms / 1000)

    def stop(self):
        self.running = False

    def free(self):
        lib.gw_loop_free(self.pointer)
        self.pointer = ffi.NULL

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.free()
