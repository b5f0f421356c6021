"""A clock that jumps, and a resolver that is slow or lies, for one broker (world.c)."""
import os
import subprocess

import pytest

from support.broker import ROOT


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A clock and a resolver of a broker's own: world("clock 100", "host slow.example 2000 127.0.0.1")."""
    place = tmp_path_factory.mktemp("world")
    library, file = str(place / "world.so"), place / "world"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, os.path.join(ROOT, "tests", "support", "world.c"), "-ldl"], check=True)

    def tell(*lines):
        other = place / "next"
        other.write_text("".join(line + "\n" for line in lines))
        os.replace(other, file)

    tell()
    tell.environment = {"LD_PRELOAD": library, "WORLD": str(file)}
    return tell
