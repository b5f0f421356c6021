"""Help, versions, and every wrong command line."""
import re

import pytest

COMMANDS = ["serve", "publish", "consume", "get", "queues", "exchanges", "bindings", "purge", "transactions", "outlook", "bench", "sim"]


def test_help_lists_every_command(bare):
    for arguments in (("--help",), ("-h",), ("help",)):
        result = bare(*arguments)
        assert (result.code, result.err) == (0, "")
        assert all(re.search(rf"^  {command} ", result.out.decode(), re.M) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(bare, command):
    asked, option = bare("help", command), bare(command, "--help")
    assert asked.code == option.code == 0
    assert asked.out == option.out
    assert command.encode() in asked.out


def test_version(bare):
    result = bare("--version")
    assert result.code == 0
    assert re.fullmatch(rb"godwit \d+\.\d+\.\d+\n", result.out)


def test_nothing_at_all(bare):
    result = bare()
    assert (result.code, result.out) == (2, b"")
    assert "Usage" in result.err


@pytest.mark.parametrize("arguments, words", [
    (("publsh", "q"), ["publsh", "publish"]),
    (("sreve",), ["sreve", "serve"]),
    (("publish", "--exchnage", "x"), ["--exchnage", "--exchange"]),
    (("consume", "q", "--cuont", "1"), ["--cuont", "--count"]),
    (("serve", "--data-dri", "x"), ["--data-dri", "--data-dir"]),
    (("serve", "--amqp-prot=5"), ["--amqp-prot", "--amqp-port"]),
    (("consume", "q", "--count", "many"), ["--count", "many"]),
    (("consume", "q", "--count"), ["--count"]),
    (("serve", "--amqp-port", "70000"), ["--amqp-port", "70000"]),
    (("serve", "--amqp-port", "http"), ["--amqp-port", "http"]),
    (("serve", "--log", "flie"), ["--log", "flie", "file"]),
    (("get",), ["QUEUE"]),
    (("publish",), ["queue"]),
    (("get", "a", "b"), ["b"]),
    (("publish", "q", "body", "--header", "novalue"), ["--header", "novalue"]),
    (("publish", "q", "body", "--header", "n:int=x"), ["--header", "n:int"]),
    (("get", "q", "--uri", "http://x"), ["--uri"]),
])
def test_wrong_command_line(bare, arguments, words):
    result = bare(*arguments)
    assert (result.code, result.out) == (2, b"")
    assert all(word in result.err for word in words), result.err
    assert len(result.err.splitlines()) <= 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(bare, shell):
    result = bare("completion", shell)
    assert result.code == 0
    assert b"publish" in result.out and b"data" in result.out
