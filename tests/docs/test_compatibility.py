"""docs/compatibility.md names tests: every one of them exists, and every difference that a transcript admits is on the page."""
import glob
import os
import re

import pytest

from support.broker import ROOT
from support.transcript import parse

PAGE = os.path.join(ROOT, "docs", "compatibility.md")
TESTS = os.path.join(ROOT, "tests")


def page():
    with open(PAGE) as file:
        return file.read()


def scripts_of(path):
    with open(path) as file:
        return parse(file.read())[0]


def names_in(path):
    """The tests that a file holds."""
    if path.endswith(".txt"):
        return {script.name for script in scripts_of(path)}
    with open(path) as file:
        return set(re.findall(r"^(?:def|static void) (\w+)\(", file.read(), re.M))


NAMED = sorted(set(re.findall(r"`([\w/]+\.(?:py|txt|c))::([^`]+)`", page())))


@pytest.mark.parametrize("path, name", NAMED)
def test_named_test_exists(path, name):
    whole = os.path.join(TESTS, path)
    assert os.path.exists(whole), f"there is no tests/{path}"
    assert name in names_in(whole), f"tests/{path} has no '{name}'"


def test_every_row_shows_a_test():
    """A row of a table that says 'here' says what shows it, or that it is not here, or never sent, or accepted."""
    text = page()
    for line in text[text.index("## Methods"):text.index("## Where RabbitMQ 3.13")].splitlines():
        if line.startswith("| ") and not line.startswith(("| code", "| method", "| argument", "| |", "|---")):
            assert "::" in line or "not here" in line or "memory ran out" in line, line


def test_every_difference_is_on_the_page():
    text = page()
    told = text[text.index("## Where the answers differ on purpose"):]
    for path in sorted(glob.glob(os.path.join(TESTS, "interop", "transcripts", "*.txt"))):
        for script in scripts_of(path):
            for note in script.notes:
                if note.startswith("! "):
                    row = f"| `interop/transcripts/{os.path.basename(path)}::{script.name}` | {note[2:]} |"
                    assert row in told, row
