"""Frame by frame what RabbitMQ 3.10 answers, asserted of Godwit: see support/transcript.py and transcripts/*.txt.

    /usr/bin/python3 -m pytest tests/interop/test_differential.py -k 'queue and passive'
    /usr/bin/python3 -m pytest tests/interop/test_differential.py --against rabbitmq     # are they still RabbitMQ's answers?
    tests/interop/transcripts/record [NAME…]                                             # asks RabbitMQ again, and shows where Godwit differs
"""
import glob
import itertools
import os

import pytest

from support.transcript import parse, play

HERE = os.path.dirname(os.path.abspath(__file__))


def scripts():
    for path in sorted(glob.glob(os.path.join(HERE, "transcripts", "*.txt"))):
        with open(path) as file:
            for script in parse(file.read())[0]:
                name = os.path.basename(path).removesuffix(".txt")
                yield pytest.param(script, id=f"{name}: {script.name}")


numbers = itertools.count(1)
run = os.urandom(1).hex()   # The broker of `--port` may know the names of an earlier run.


@pytest.mark.parametrize("script", scripts())
def test_transcript(broker, against, script):
    heard = play(script, broker.port, f"{run}{next(numbers):03d}.", quiet_s=0.03 if against == "godwit" else 0.15, expect=against)
    for step, lines in zip(script.steps, heard):
        assert lines == step.expected(against), f"after {step.sends}"
    assert len(heard) == len(script.steps)


def test_differences_have_reasons():
    for script in (param.values[0] for param in scripts()):
        differs = any(step.godwit is not None for step in script.steps)
        told = any(note.startswith("! ") for note in script.notes)
        assert differs == told, f"{script.name}: a line '!' says why Godwit answers otherwise, and only then"


def test_names_are_unique():
    names = [param.id for param in scripts()]
    assert len(names) == len(set(names))
