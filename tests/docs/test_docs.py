"""Runs what the pages tell their readers to run, and compares what they say it prints.

In a page, a fenced block under `<!-- run -->` is run (sh, python, or a whole program in c), in order, in one directory and against one broker a page; a
block under `<!-- prints -->` is what the block before it prints, standard error included. `<!-- restart -->` starts the broker again where an
example has ended it. A block of shell or Python that is not run says why: `<!-- not run: … -->`.
"""
import os
import re
import shutil
import subprocess
import sys

import pytest

from support.broker import Godwit, ROOT, godwit_binary

PAGES = sorted(os.path.join(folder, name) for folder in (ROOT, os.path.join(ROOT, "docs")) for name in os.listdir(folder)
               if name.endswith(".md"))
# What README says before anything is built cannot be run by a test of what was built.
NOT_HERE = ("./run", "./check")
# The examples say localhost and the standard ports. Here the ports are others, and a bare root may not know the name.
PIKA_HERE = """
import os, socket
import pika.connection
pika.connection.Parameters.DEFAULT_PORT = int(os.environ['GODWIT_TEST_PORT'])
resolve = socket.getaddrinfo
def resolve_here(host, port, *more, **named):
    http = os.environ['GODWIT_TEST_HTTP_PORT'] if str(port) == '15672' else port
    return resolve('127.0.0.1' if host == 'localhost' else host, http, *more, **named)
socket.getaddrinfo = resolve_here
"""

# $0 is the program.
COMPILED_HERE = """
printf %s "$0" >program.c
cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror program.c -o program -Iinclude -Lbuild -lgodwit -Wl,-rpath,"$PWD/build"
./program
"""

CURL_HERE = """#!/usr/bin/python3
import os, sys
os.execv("/usr/bin/curl", ["curl"] + [word.replace("localhost:15672", "localhost:" + os.environ["GODWIT_TEST_HTTP_PORT"]) for word in sys.argv[1:]])
"""


def steps_of(page):
    """(kind, text, what it prints or None, restart before it) for every block to be run."""
    with open(page) as file:
        text = file.read()
    steps, restart, mark, marked = [], False, None, 0   # `mark`: the last comment, which ended at `marked`
    for token in re.finditer(r"<!-- (.*?) -->|^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        comment, kind, block = token.groups()
        if comment is not None:
            mark, marked = comment, token.end()
            restart = restart or mark == "restart"
            continue
        if text[marked:token.start()].strip():
            mark = None   # It belonged to something else.
        if mark == "run":
            steps.append([kind, block, None, restart])
            restart = False
        elif mark == "prints":
            steps[-1][2] = block
        elif kind in ("sh", "python") and not (mark or "").startswith("not run: "):
            assert all(line.split("#")[0].split()[:1] == [] or line.startswith(NOT_HERE) for line in block.splitlines()), \
                f"{os.path.basename(page)}: a block of {kind} is neither run nor says why not:\n{block}"
    return steps


@pytest.fixture
def place(tmp_path):
    """A directory that looks like the tree to an example."""
    for name in ("tests", "docs", "README.md", "src", "include", "examples"):
        os.symlink(os.path.join(ROOT, name), tmp_path / name)
    os.mkdir(tmp_path / "build")
    os.symlink(godwit_binary(), tmp_path / "build" / "godwit")
    for name in ("libgodwit.so", "libgodwit.so.0", "libgodwit.a"):
        os.symlink(os.path.join(os.path.dirname(os.path.abspath(godwit_binary())), name), tmp_path / "build" / name)
    os.mkdir(tmp_path / "python")
    (tmp_path / "python" / "sitecustomize.py").write_text(PIKA_HERE)
    os.mkdir(tmp_path / "bin")
    (tmp_path / "bin" / "curl").write_text(CURL_HERE)
    os.chmod(tmp_path / "bin" / "curl", 0o755)
    return tmp_path


@pytest.mark.limit(120)
@pytest.mark.parametrize("page", PAGES, ids=[os.path.relpath(page, ROOT) for page in PAGES])
def test_examples(page, place):
    steps = steps_of(page)
    if not steps:
        return
    with Godwit(data_dir=str(place / "data")) as broker:
        for kind, text, printed, restart in steps:
            if restart:
                broker.process.wait(10)
                broker.start()
            command = {"sh": ["bash", "-euo", "pipefail", "-c", text], "python": ["/usr/bin/python3", "-B", "-c", text], "c": ["bash", "-euc", COMPILED_HERE, text]}[kind]
            environment = {**os.environ, "GODWIT_URI": f"amqp://guest:guest@127.0.0.1:{broker.port}/", "BROKER_PID": str(broker.process.pid),
                           "GODWIT_URL": f"http://127.0.0.1:{broker.http_port}", "GODWIT_TEST_PORT": str(broker.port), "GODWIT_TEST_HTTP_PORT": str(broker.http_port),
                           "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(place / "python")}
            done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  stdin=subprocess.DEVNULL, timeout=60)
            assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout}"
            if printed is not None:
                assert done.stdout == printed, text
            else:
                assert done.stdout == "", text


@pytest.mark.parametrize("page", PAGES, ids=[os.path.relpath(page, ROOT) for page in PAGES])
def test_links(page):
    with open(page) as file:
        text = file.read()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert os.path.exists(os.path.join(os.path.dirname(page), target)), f"{os.path.basename(page)} leads to {target}"


def read(name):
    with open(os.path.join(ROOT, name)) as file:
        return file.read()


def said_by(*arguments):
    return subprocess.run([godwit_binary(), *arguments], stdout=subprocess.PIPE, text=True, timeout=10, check=True).stdout


def test_every_setting_is_documented():
    keys = {option.replace("-", "_") for option in re.findall(r"^ +--([a-z-]+)", said_by("serve", "--help"), re.M)} - {"help"}
    documented = set(re.findall(r"^\| `(\w+)` \|", read("docs/configuration.md"), re.M))
    assert keys == documented


def test_every_command_is_documented():
    commands = set(re.findall(r"^  (\w+) ", said_by("help").split("Commands:")[1].split("Options:")[0], re.M)) - {"help"}
    text = read("docs/cli.md")
    assert not [command for command in commands if not re.search(rf"\b{command}\b", text)]


def test_hello_programs_are_readmes():
    """README's first program differs from tests/interop/send.py in the name of the queue only."""
    assert read("tests/interop/send.py").replace("hello", "greetings") in read("README.md")


def test_every_page_is_linked():
    text = "".join(read(os.path.relpath(page, ROOT)) for page in PAGES)
    for page in PAGES:
        name = os.path.basename(page)
        assert name == "README.md" or name in text


def test_scripts_exist_and_say_what_they_do():
    for script in ("run", "check", ".ci/run", "tools/install", "tools/check-layers", "tools/check-tidy", "tools/check-suites", "tools/profile", "bench/compare",
                   "bench/growth", "bench/plot", "tests/crash/crash.py", "tests/interop/run-clients"):
        assert os.access(os.path.join(ROOT, script), os.X_OK), script
    for script in re.findall(r"`((?:tools|bench|tests)/[\w/.-]+)", read("CONTRIBUTING.md")):
        assert os.path.exists(os.path.join(ROOT, script)), script
    for script in ("run", "check"):
        assert shutil.which("sh") and subprocess.run(["sh", "-n", os.path.join(ROOT, script)]).returncode == 0
    assert sys.version_info >= (3, 9)
