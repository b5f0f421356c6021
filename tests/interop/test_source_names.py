"""Servers of sources that are found slowly, and those whose certificates come from an authority of one's own."""
import os
import time

import pytest
import requests

from support.authority import Authority
from support.broker import make_broker
from support.events import Events
from support.sources import Queue, Sources
from support.world import world   # noqa: F401

pytestmark = pytest.mark.godwit_only("RabbitMQ has no sources")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("certificates"))
    made.certify("good")
    made.self_signed("alone")
    return made


@pytest.fixture(scope="module")
def reading(request, authority, world):
    if os.environ.get("GODWIT"):
        pytest.skip("what is loaded in front of a sanitizer confuses it")
    with make_broker("godwit", reactors=request.config.getoption("--reactors"), options=["--webhook-ca", authority.file("ca.pem")], environment=world.environment) as broker:
        yield broker


def test_nobody_waits_for_a_name(reading, world, eventually):
    """Neither one that takes too long for its source, nor one that nobody wants any more."""
    sources, too_long, unwanted = Sources(reading), "too-long", "unwanted"
    world("host slow.example 6000 127.0.0.1")
    sources.make(id=too_long, kind="sse", url="http://slow.example:1/", idle="500ms", retry="30s")
    sources.make(id=unwanted, kind="poll", url="http://slow.example:1/")
    begin, waited = time.monotonic(), []
    time.sleep(0.2)
    sources.delete(unwanted)
    while time.monotonic() - begin < 2:
        before = time.monotonic()
        assert requests.get(f"http://127.0.0.1:{reading.http_port}/health").status_code == 200
        waited.append(time.monotonic() - before)
    assert max(waited) < 1
    eventually(lambda: sources.status(too_long).get("error") == "Nothing came for 0.5 s.")
    sources.delete(too_long)
    world()


def test_servers_with_certificates_of_an_authority_of_ones_own(reading, authority, eventually, name):
    for certificate in ("good", "alone"):
        events, sources, id_ = Events(), Sources(reading), certificate
        events.socket = authority.server_context(certificate).wrap_socket(events.socket, server_side=True)
        events.count, queue = 2, Queue(reading, f"{id_}.#", name())
        sources.make(id=id_, kind="sse", url=f"https://localhost:{events.server_port}/", type=f"{id_}.x")
        if certificate == "good":
            eventually(lambda: queue.bodies() == ['{"n": 1}', '{"n": 2}'])
        else:
            eventually(lambda: "certificate" in sources.status(id_).get("error", ""))
            assert queue.bodies() == []
        sources.delete(id_)
        events.stop()
