"""The header as others see it: compilers of C and C++, Python (cffi) and, in tests/interop/clients/libgodwit_node, Node.js, both of which read it as it is."""
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

from support.broker import ROOT

HEADER = os.path.join(ROOT, "include", "godwit.h")
EXAMPLES = os.path.join(ROOT, "examples", "python")
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.dirname(os.path.abspath(os.environ.get("GODWIT", os.path.join(ROOT, "build", "godwit"))))
ENVIRONMENT = {"GODWIT_LIBRARY": os.path.join(BUILD, "libgodwit.so"), "GODWIT_HEADER": HEADER}

pytestmark = [pytest.mark.godwit_only("it is libgodwit's header"),
              pytest.mark.skipif("GODWIT_SANITIZE" in os.environ, reason="a sanitizer wants to be loaded before Python is")]

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wundef", "-Wcast-qual", "-Werror", "-fsyntax-only"]


@pytest.mark.parametrize("compiler, standards", [("cc", ["c11", "c17", "c2x"]), ("clang", ["c11", "c17"]), ("g++", ["c++11", "c++17", "c++20"]), ("clang++", ["c++11", "c++17"])])
def test_compilers_find_nothing_to_say(compiler, standards, tmp_path):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    cxx = "++" in compiler
    # Twice, first of all, and with options as initializers have them.
    (tmp_path / "user").write_text(f'#include "{HEADER}"\n#include "{HEADER}"\n' + (
        "int main() { gw_handler_options options = {}; options.retries = 5; return gw_version()[0] == 0 || options.retries != 5; }\n" if cxx else
        "int main(void) { const gw_handler_options options = {.retries = 5}; return gw_version()[0] == 0 || options.retries != 5; }\n"))
    for standard in standards:
        more = [] if cxx else ["-Wc++-compat", "-Wstrict-prototypes"]
        done = subprocess.run([compiler, f"-std={standard}", *STRICT, *more, "-x", "c++" if cxx else "c", str(tmp_path / "user")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{standard}: {done.stdout}"


@pytest.fixture(scope="module")
def godwit():
    """The binding of examples/python."""
    os.environ.update(ENVIRONMENT)
    specification = importlib.util.spec_from_file_location("godwit", os.path.join(EXAMPLES, "godwit.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def structures():
    """{structure: its members}, of the header's text."""
    with open(HEADER) as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    found = {}
    for name, body in re.findall(r"typedef struct (\w+) \{([^}]*)\} \1;", text):
        found[name] = [re.sub(r"\[.*\]", "", one.split()[-1].lstrip("*")) for line in body.split(";") for one in line.split(",") if one.strip()]
    return found


def test_python_lays_structures_out_as_the_compiler_does(godwit, tmp_path):
    lines = [f'printf("{name} %zu\\n", sizeof({name}));' for name in structures()]
    lines += [f'printf("{name}.{member} %zu\\n", offsetof({name}, {member}));' for name, members in structures().items() for member in members]
    (tmp_path / "layout.c").write_text(f'#include "{HEADER}"\n#include <stdio.h>\nint main(void) {{ {" ".join(lines)} return 0; }}\n')
    subprocess.run(["cc", "-o", str(tmp_path / "layout"), str(tmp_path / "layout.c")], check=True)
    printed = subprocess.run([str(tmp_path / "layout")], stdout=subprocess.PIPE, text=True, check=True).stdout
    told = {name: int(size) for name, size in (line.split() for line in printed.splitlines())}
    ours = {name: godwit.ffi.sizeof(name) for name in structures()}
    ours |= {f"{name}.{member}": godwit.ffi.offsetof(name, member) for name, members in structures().items() for member in members}
    assert told == ours and len(told) > 60


def functions(godwit):
    with open(HEADER) as file:
        names = re.findall(r"^GW_API [\w *]+?\b(gw_\w+)\(", file.read(), re.M)
    assert len(names) > 50
    return {name: getattr(godwit.lib, name) for name in names}


def test_every_function_is_there_and_lets_nothing_through(godwit):
    """With no handle, no text and no room, nothing happens, and that is said."""
    for name, function in functions(godwit).items():
        kinds = godwit.ffi.typeof(function).args
        result = function(*(godwit.ffi.NULL if kind.kind in ("pointer", "function") else 0 for kind in kinds))
        kind = godwit.ffi.typeof(function).result
        if kind.kind == "pointer" and name not in ("gw_loop_new", "gw_loop_adopt", "gw_version", "gw_result_text", "gw_error"):
            assert result == godwit.ffi.NULL, name
        if name == "gw_loop_new":
            godwit.lib.gw_loop_free(result)


def lines_of(command, cwd):
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **ENVIRONMENT, "PYTHONPATH": EXAMPLES}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines(), done.stderr


def test_the_example_in_python(bus, tmp_path):
    said, complained = lines_of([sys.executable, "-B", os.path.join(EXAMPLES, "orders.py"), bus], tmp_path)
    assert sorted(said[:-1]) == ["durable: 0"] * 3 + ["order.created 1, attempt 1", "order.created 2, attempt 1", "order.created 2, attempt 2", "order.created 3, attempt 1"]
    assert said[-1] == "closed: 0" and complained.count("RuntimeError: out of stock\n") == 1


@pytest.mark.limit(240)
def test_the_example_in_python_under_valgrind(tmp_path, valgrind):
    """Python's own allocator aside nothing is to be suppressed: the interpreter is clean, and so must be what it calls and what calls it back."""
    environment = {**os.environ, **ENVIRONMENT, "PYTHONMALLOC": "malloc"}
    done = subprocess.run([*valgrind, "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite", sys.executable, "-B", os.path.join(EXAMPLES, "orders.py"), "orders.gw"],
                          cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=200)
    assert done.returncode == 0 and done.stdout.endswith("closed: 0\n") and "==" not in done.stderr, done.stdout + done.stderr


def test_events_keep_all_that_they_had(godwit, bus):
    with godwit.Loop() as loop:
        there, came = loop.bus(bus), []

        def keep(event):
            came.append((event.type, event.id, event.source, event.subject, event.content_type, event.key, event.data, event.header("tenant"), event.attempt, event.time_ms, event.priority))
            there.close()

        there.on("kept.#", keep, name="kept", priorities=9)
        there.publish("kept.whole", b"\0\xff binary", id="7", source="/s", subject="s\u00fc", content_type="image/png", key="k", headers={"tenant": "a"}, time_ms=86_400_000, priority=3)
        loop.run()
    assert came == [("kept.whole", "7", "/s", "s\u00fc", "image/png", "k", b"\0\xff binary", "a", 1, 86_400_000, 3)]


def test_two_buses_and_a_request(godwit, bus, tmp_path):
    """One loop, two buses: what one hears, it asks the other about."""
    with godwit.Loop() as loop:
        here, there, replies = loop.bus(bus), loop.open(str(tmp_path / "other.gw")), []
        there.on("double", lambda event: event.reply(event.data * 2), name="double")

        def asked(event):
            there.request("double", event.data, lambda result, data: (replies.append((result, data)), here.close(), there.close()), timeout_ms=5000)

        here.on("ask", asked, name="ask")
        here.publish("ask", b"ab")
        loop.run()
    assert replies == [(0, b"abab")]


def test_another_thread_is_refused(godwit, tmp_path):
    with godwit.Loop() as loop:
        bus, found = loop.open(str(tmp_path / "bus.gw")), []
        handler = bus.on("x", lambda event: None)

        def meddle():
            for attempt in (lambda: bus.publish("x", b"1"), lambda: bus.publish_wait("x", b"1", timeout_ms=100), lambda: bus.on("y", print)):
                try:
                    attempt()
                except godwit.Error as error:
                    found.append((error.result, str(error)))
            found.append((godwit.lib.gw_close(bus.pointer, 0, godwit.ffi.NULL, godwit.ffi.NULL), ""))
            found.append((godwit.lib.gw_loop_step(loop.pointer), ""))
            godwit.lib.gw_off(handler.pointer)
            godwit.lib.gw_loop_stop(loop.pointer)                                                    # which is allowed

        thread = threading.Thread(target=meddle)
        thread.start()
        thread.join()
        assert [result for result, _ in found][:2] == [godwit.lib.GW_E_THREAD] * 2 and [result for result, _ in found][-2:] == [godwit.lib.GW_E_THREAD] * 2, found
        bus.publish_wait("x", b"good")                                                               # and its own goes on


def test_a_handler_that_never_answers_is_given_up(godwit, tmp_path):
    with godwit.Loop() as loop:
        bus, attempts = loop.open(str(tmp_path / "bus.gw")), []

        def hear(event):
            attempts.append(event.attempt)
            event.later()
            if event.attempt == 2:
                event.ack()
                bus.close()

        bus.on("slow", hear, name="slow", timeout_ms=100, retries=3, retry_delays_ms=[1])
        bus.publish("slow", b"1")
        loop.run()
    assert attempts == [1, 2]
