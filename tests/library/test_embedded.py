"""gw_open from the outside: programs that are killed, that throw, whose disk is full or whose files are damaged; a directory that goes to and fro between a program and `godwit serve`; and what is
installed."""
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

from support.broker import ROOT, Godwit, godwit_binary

BUILD = os.path.dirname(os.path.abspath(godwit_binary()))
SEED = 7


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "bus.gw")


def numbers(lines, word):
    return [int(line.split()[1]) for line in lines if line.startswith(word + " ")]


def test_a_program_that_is_killed_loses_nothing_that_was_confirmed(build, start, run, directory):
    program, chance = build("tests/library/crash.c"), random.Random(SEED)
    safe, done, first = set(), [], 1
    for _ in range(8):
        running = start(program, directory, first, 100000)
        running.wait_for(lambda lines: len(numbers(lines, "safe")) >= 100)
        time.sleep(chance.uniform(0, 0.1))
        running.process.send_signal(signal.SIGKILL)
        running.wait()
        lines = running.said()
        safe |= set(numbers(lines, "safe"))
        done += numbers(lines, "done")
        first = max(numbers(lines, "safe")) + 100000
    done += numbers(run(program, directory, 0, 0), "done")
    assert safe and safe <= set(done), f"seed {SEED}: {sorted(safe - set(done))[:10]} were safe, and never came"
    # At least once: what was done and not acknowledged on disk comes again, and nothing else: ten in hand, and what was done while one write to a busy disk took its time.
    assert len(done) - len(set(done)) <= min(8 * 10 + 8 * 250, len(set(done)) // 2)
    assert numbers(run(program, directory, 0, 0), "done") == []


def test_a_handler_in_cxx_may_throw(run, tmp_path, directory):
    program = str(tmp_path / "throws")
    subprocess.run(["g++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{ROOT}/include", f"{ROOT}/tests/library/throws.cc", "-o", program,
                    f"-L{BUILD}", "-lgodwit", f"-Wl,-rpath,{BUILD}"], check=True)
    assert run(program, directory) == ["caught: not today", "handled at attempt 2 after 1 exceptions"] * 2


def test_a_directory_goes_to_and_fro_between_a_program_and_the_broker(build, run, directory, monkeypatch):
    program = build("tests/library/one.c")
    monkeypatch.setenv("HANDLES", "no")
    assert run(program, directory, "order.created", "7") == ["order.created 7: safe"]
    monkeypatch.delenv("HANDLES")
    broker = Godwit(data_dir=directory)
    broker.start()
    try:
        # The program finds it in use, and says by whom.
        refused = subprocess.run([program, directory], stdout=subprocess.PIPE, text=True)
        assert refused.returncode == 2
        assert re.fullmatch(r"in use: data directory \S+ is in use by process \d+; stop it, or choose another directory.*\n", refused.stdout)
        uri = f"amqp://guest:guest@127.0.0.1:{broker.port}"
        got = subprocess.run([godwit_binary(), "get", "--uri", uri, "all"], stdout=subprocess.PIPE, text=True, check=True)
        assert got.stdout.strip() == "7"
        subprocess.run([godwit_binary(), "publish", "--uri", uri, "--exchange", "events", "--routing-key", "order.paid", "8"], check=True)
    finally:
        assert broker.stop() == 0
    assert run(program, directory) == ["got order.paid 8 from /amqp"]


def test_history_is_kept_and_served(build, run, directory, monkeypatch):
    monkeypatch.setenv("HANDLES", "no")
    monkeypatch.setenv("HISTORY", str(1 << 20))
    run(build("tests/library/one.c"), directory, "order.created", "7", "order.paid", "8")
    with Godwit(data_dir=directory) as broker:
        with urllib.request.urlopen(f"http://127.0.0.1:{broker.http_port}/events?from=first&type=order.paid", timeout=10) as listening:
            data = next(line for line in listening if line.startswith(b"data: "))
    event = json.loads(data.removeprefix(b"data: "))
    assert event["type"] == "order.paid" and event["source"] == "/amqp" and event["id"]


def test_when_the_disk_is_almost_full_nothing_is_published_and_handlers_go_on(build, run, directory, monkeypatch):
    program = build("tests/library/one.c")
    monkeypatch.setenv("HANDLES", "no")
    run(program, directory, "a", "1")
    monkeypatch.delenv("HANDLES")
    monkeypatch.setenv("DISK_FREE", str(1 << 60))
    said = run(program, directory, "a", "2")
    assert "got a 1 from /amqp" in said
    assert "a 2: the disk is full, or almost: free some space, then publishing goes on" in said
    assert any(line.startswith("notice: ") and "bytes free on disk" in line for line in said)


def test_a_directory_that_was_closed_in_order_is_opened_without_reading_what_is_gone(build, run, directory):
    """48 MiB went through; three events are left."""
    said = run(build("tests/library/reopen.c"), directory, 48 * 1024)
    assert said[-1] == "3 were left"
    replayed = [int(re.search(r"records of (\d+) bytes", line).group(1)) for line in said if "replayed" in line]
    assert sum(replayed) < 1 << 20, said
    assert sum(os.path.getsize(path) for path in glob.glob(os.path.join(directory, "shard-0", "*"))) < 24 << 20


def test_what_is_no_data_directory_is_told(build, tmp_path, directory):
    program = build("tests/library/one.c")

    def refusal(path):
        done = subprocess.run([program, path], stdout=subprocess.PIPE, text=True, timeout=20)
        assert done.returncode == 2
        return done.stdout

    os.mkdir(directory)
    with open(os.path.join(directory, "godwit"), "w") as file:
        file.write("something else\n")
    assert "the file 'godwit' in it is not one of a data directory" in refusal(directory)
    with open(os.path.join(directory, "godwit"), "w") as file:
        file.write("godwit data 99, shards 1\n")
    assert refusal(directory).startswith("damaged: cannot open data directory ")
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(str(tmp_path / "file"))
    assert "make its parent directory first" in refusal(str(tmp_path / "none" / "there"))


def test_rot_in_the_log_is_told_and_costs_what_is_rotten(build, run, directory, monkeypatch):
    program = build("tests/library/one.c")
    monkeypatch.setenv("HANDLES", "no")
    for i in range(3):
        run(program, directory, "a", f"data-{i}")
    monkeypatch.delenv("HANDLES")
    # The snapshots are those of an orderly end; without them everything is read from the log.
    log = sorted(glob.glob(os.path.join(directory, "shard-0", "log-*")))[0]
    with open(log, "r+b") as file:
        text = file.read()
        at = text.find(b"data-1")
        assert at > 0
        file.seek(at)
        file.write(b"DATA")
    said = run(program, directory)
    assert any(line.startswith("notice: ") for line in said)
    assert "got a data-0 from /amqp" in said and "got a data-2 from /amqp" in said
    assert not any("ATA-1" in line for line in said if line.startswith("got"))


def test_a_bus_that_is_opened_ten_thousand_times_leaves_nothing_behind(build, run, directory):
    program = build("tests/library/opens.c")
    for where, count in ((":memory:", 10000), (directory, 40)):
        more, descriptors = re.fullmatch(r"(-?\d+) bytes more, (-?\d+) descriptors more", run(program, where, count)[0]).groups()
        assert int(descriptors) == 0 and int(more) < 20000


def test_valgrind_finds_nothing(build, valgrind, directory):
    program = build("tests/library/opens.c")
    for where in (":memory:", directory):
        done = subprocess.run([*valgrind, program, where, "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


def test_programs_are_built_against_what_is_installed(tmp_path, run, directory):
    root = str(tmp_path / "root")
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], env={**os.environ, "DESTDIR": root}, check=True, stdout=subprocess.DEVNULL)
    found = glob.glob(f"{root}/**/libgodwit.pc", recursive=True)
    assert len(found) == 1
    environment = {**os.environ, "PKG_CONFIG_PATH": os.path.dirname(found[0]), "PKG_CONFIG_SYSROOT_DIR": root}

    def flags(*options):
        return subprocess.run(["pkg-config", *options, "libgodwit"], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.split()

    assert flags("--modversion") == [subprocess.run([godwit_binary(), "--version"], stdout=subprocess.PIPE, text=True).stdout.split()[-1]]
    shared = os.path.dirname(glob.glob(f"{root}/**/libgodwit.so", recursive=True)[0])
    # The system's own libraries are not below the root.
    static = [flag.removeprefix(root) if flag.startswith(root) else flag for flag in flags("--libs-only-l", "--static")]
    for name, libraries in (("shared", flags("--cflags", "--libs") + [f"-Wl,-rpath,{shared}"]),
                            ("static", flags("--cflags") + [f"{shared}/libgodwit.a"] + [flag for flag in static if flag != "-lgodwit"])):
        program = str(tmp_path / name)
        subprocess.run(["cc", f"{ROOT}/tests/library/one.c", "-o", program, *libraries], check=True)
        assert run(program, f"{directory}-{name}", "a", "1") == ["a 1: safe", "got a 1 from /amqp"]
        needed = subprocess.run(["readelf", "-d", program], stdout=subprocess.PIPE, text=True).stdout
        assert ("libgodwit.so.0" in needed) == (name == "shared")


def test_nothing_but_its_own_names_can_be_seen():
    library = os.path.join(BUILD, "libgodwit.so")
    lines = subprocess.run(["nm", "-D", "--defined-only", library], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    names = {line.split()[2] for line in lines if line and line.split()[1] != "A"}
    assert names and all(re.fullmatch(r"gw_\w+@@GODWIT_1\.0", name) for name in names), names
    with open(os.path.join(ROOT, "include", "godwit.h")) as header:
        declared = set(re.findall(r"^GW_API [^;]*?\b(gw_\w+)\(", header.read(), re.M))
    assert declared == {name.split("@")[0] for name in names}
    archived = subprocess.run(["nm", "--defined-only", "--extern-only", os.path.join(BUILD, "libgodwit.a")], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert all(name.startswith("gw_") for name in re.findall(r"^[0-9a-f]+ [A-Z] (\w+)$", archived, re.M))


def test_the_library_is_small(tmp_path):
    stripped = str(tmp_path / "stripped.so")
    subprocess.run(["strip", "-o", stripped, os.path.join(BUILD, "libgodwit.so")], check=True)
    assert os.path.getsize(stripped) <= 1.5 * 1024 * 1024
