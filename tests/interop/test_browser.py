"""A real browser: EventSource, WebSocket and fetch() of pages of the broker's own origin, of one that it allows, and of one that it does not."""
import re

import pytest
import requests

from support.authority import Authority
from support.broker import make_broker
from support.browser import Browser, Pages

pytestmark = pytest.mark.godwit_only("RabbitMQ has no event bus")

# What every page gets: `until(question)`, and listeners that keep what they hear.
KIT = """
window.until = async (question, limit = 20000) => {
    for (const end = Date.now() + limit; Date.now() < end; await new Promise(resolve => setTimeout(resolve, 10)))
        if (question()) return;
    throw new Error('never: ' + question);
};
window.listen = (url, options) => {
    const source = new EventSource(url, options), heard = {opens: 0, errors: 0, items: [], source};
    source.onopen = () => heard.opens++;
    source.onerror = () => heard.errors++;
    source.onmessage = event => heard.items.push({id: event.lastEventId, event: JSON.parse(event.data)});
    source.addEventListener('gap', event => heard.items.push({id: event.lastEventId, gap: JSON.parse(event.data)}));
    return heard;
};
window.talk = url => {
    const socket = new WebSocket(url), heard = {opened: false, closed: null, items: [], socket};
    socket.onopen = () => heard.opened = true;
    socket.onclose = event => heard.closed = event.code;
    socket.onmessage = event => heard.items.push(JSON.parse(event.data));
    return heard;
};
"""


@pytest.fixture(scope="module")
def browser():
    made = Browser()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pages():
    made = Pages()
    yield made
    made.close()


@pytest.fixture(scope="module")
def trusting(request, pages):
    """A broker that lets the pages with a numeric address in."""
    with make_broker("godwit", reactors=request.config.getoption("--reactors"), options=["--http-origins", pages.numeric]) as broker:
        broker.http = f"http://127.0.0.1:{broker.http_port}"
        broker.ws = f"ws://127.0.0.1:{broker.http_port}"
        yield broker


@pytest.fixture
def visit(browser):
    opened = []

    def open_page(url):
        opened.append(browser.page(url))
        opened[-1].run(KIT)
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()


def publish(broker, kind, data=None, **parameters):
    answer = requests.post(f"{broker.http}/event/publish", json={"event_type": kind, "data": data}, params=parameters)
    assert answer.status_code == 200, answer.text


def test_event_source_goes_on_over_a_kill(trusting, pages, visit, connect_to):
    """It comes back by itself, says what it had last, and hears the rest once; where history is gone, it is told so."""
    trusting.control("add_vhost", "short")
    trusting.control("set_permissions", "-p", "short", "guest", ".*", ".*", ".*")
    channel = connect_to(trusting, virtual_host="short").channel()
    channel.exchange_declare("events", "topic", durable=True)
    channel.queue_declare("events", durable=True, arguments={"x-queue-type": "stream", "x-max-length-bytes": 200_000, "x-stream-max-segment-size-bytes": 50_000})
    channel.queue_bind("events", "events", "#")
    channel.connection.close()
    page = visit(f"{pages.numeric}/")
    page.run("window.all = listen(url + '/events?type=seen.*'); window.short = listen(url + '/events?vhost=short', {withCredentials: true}); await until(() => all.opens && short.opens)", url=trusting.http)
    for i in range(3):
        publish(trusting, "seen.it", {"n": i, "text": "grüße\n\u2028"})
    publish(trusting, "other")
    publish(trusting, "first", vhost="short")
    page.run("await until(() => all.items.length == 3 && short.items.length == 1)")
    trusting.kill()
    page.run("await until(() => all.errors && short.errors)")
    trusting.start()
    publish(trusting, "seen.later", {"n": 3})
    for i in range(100):
        publish(trusting, "big", "x" * 10_000, vhost="short")
    heard, opens, ready = page.run("await until(() => all.items.length >= 4 && short.items.length >= 2); return [all.items, all.opens, all.source.readyState]")
    assert (opens, ready) == (2, 1)
    assert [item["event"]["data"]["n"] for item in heard] == [0, 1, 2, 3]
    assert heard[0]["event"]["data"]["text"] == "grüße\n\u2028" and heard[0]["event"]["specversion"] == "1.0"
    ids = [int(item["id"]) for item in heard]
    assert ids == sorted(set(ids))
    first, gap, *rest = page.run("await until(() => short.items.length >= 4); return short.items")
    assert first["id"] == "0" and gap["gap"]["from"] == 1 and gap["gap"]["to"] == int(gap["id"])
    assert [int(item["id"]) for item in rest] == list(range(int(gap["id"]) + 1, int(rest[-1]["id"]) + 1))
    page.run("all.source.close(); short.source.close()")


def test_a_web_socket_with_acknowledgements(trusting, pages, visit):
    page = visit(f"{pages.numeric}/")
    page.run("window.one = talk(url + '/events?type=acked.*&ack=manual'); await until(() => one.opened)", url=trusting.ws)
    for i in range(80):
        publish(trusting, f"acked.{i}", i)
    data = page.run("""
        await until(() => one.items.length >= 32);
        await new Promise(resolve => setTimeout(resolve, 200));
        const first = one.items.length;
        while (one.items.length < 80) {
            const before = one.items.length;
            one.socket.send(JSON.stringify({ack: one.items[before - 1].id}));
            await until(() => one.items.length > before);
        }
        return [first, one.items.map(item => item.event.data)]""")
    assert data == [32, list(range(80))]
    code, later = page.run("""
        const last = one.items[9].id;
        one.socket.close(1000, 'done');
        await until(() => one.closed !== null);
        const two = talk(`${url}/events?type=acked.*&last_event_id=${last}`);
        await until(() => two.items.length == 70);
        two.socket.close();
        return [one.closed, two.items[0].event.data]""", url=trusting.ws)
    assert (code, later) == (1000, 10)
    assert page.run("const bad = talk(url + '/events?ack=manual'); await until(() => bad.opened); bad.socket.send('what?'); await until(() => bad.closed); return bad.closed", url=trusting.ws) == 1008


PUBLISH = """
    const answer = await fetch(url + '/events', {method: 'POST', body: JSON.stringify(event), headers: {'content-type': 'application/cloudevents+json', ...headers}, ...more});
    return [answer.status, await answer.json()];
"""


def test_fetch_publishes_after_a_preflight(trusting, pages, visit, connect_to, name):
    page = visit(f"{pages.numeric}/")
    event = {"specversion": "1.0", "id": "f1", "source": "/page", "type": "fetched", "data": [1]}
    user = {"authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="}
    wrong = {"authorization": "Basic Z3Vlc3Q6d3Jvbmc="}
    assert page.run(PUBLISH, url=trusting.http, event=event, headers={}, more={}) == [201, {"id": "f1"}]
    assert page.run(PUBLISH, url=trusting.http, event=event, headers={**user, "idempotency-key": "k"}, more={}) == [201, {"id": "f1"}]
    assert page.run(PUBLISH, url=trusting.http, event=event, headers={}, more={"credentials": "include"}) == [201, {"id": "f1"}]
    status, problem = page.run(PUBLISH, url=trusting.http, event=event, headers=wrong, more={})
    assert (status, problem["status"]) == (401, 401)                       # which the page may read, too
    status, problem = page.run(PUBLISH, url=trusting.http, event={"id": "f2"}, headers={}, more={})
    assert status == 400 and problem["detail"]
    queue = connect_to(trusting).channel().queue_declare(name(), durable=True).method.queue
    taken = page.run("""
        const queue_url = `${url}/queues/${queue}/messages`;
        await fetch(queue_url, {method: 'POST', body: new Uint8Array([0, 1, 255]), headers: {'message-kind': 'new', 'content-type': 'image/png'}});
        const answer = await fetch(queue_url);
        const bytes = [...new Uint8Array(await answer.arrayBuffer())];
        await fetch(`${queue_url}/${answer.headers.get('godwit-token')}?outcome=requeue`, {method: 'DELETE', credentials: 'include'});
        const again = await fetch(queue_url, {credentials: 'include'});
        const done = await fetch(`${queue_url}/${again.headers.get('godwit-token')}`, {method: 'DELETE'});
        const empty = await fetch(queue_url);
        return [answer.headers.get('content-type'), answer.headers.get('message-kind'), bytes, done.status, empty.status]""", url=trusting.http, queue=queue)
    assert taken == ["image/png", "new", [0, 1, 255], 204, 204]
    lines = page.run("""
        const stop = new AbortController(), answer = await fetch(url + '/events?type=fetched&from=first', {signal: stop.signal});
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (var text = ''; (text.match(/^data: /mg) || []).length < 3;)
            text += (await reader.read()).value;
        stop.abort();
        return text.split('\\n')""", url=trusting.http)
    assert lines[0] == "retry: 3000" and len([line for line in lines if line.startswith("id: ")]) == 3


def test_a_page_of_a_foreign_origin_gets_nothing(trusting, pages, visit):
    page = visit(f"{pages.named}/")
    heard = page.run("window.one = listen(http + '/events'); window.two = talk(ws + '/events'); await until(() => one.errors && two.closed);"
                     "return [one.opens, one.source.readyState, two.opened, two.closed]", http=trusting.http, ws=trusting.ws)
    assert heard == [0, 2, False, 1006]
    said = page.run("""
        const tries = [fetch(url + '/health'), fetch(url + '/events', {method: 'POST', body: '{}', headers: {'content-type': 'application/json'}}),
                       fetch(url + '/events?type=sneaked', {method: 'POST', body: 'x', mode: 'no-cors'})];
        return (await Promise.allSettled(tries)).map(one => one.status == 'rejected' ? one.reason.name : one.value.type)""", url=trusting.http)
    assert said == ["TypeError", "TypeError", "opaque"]
    publish(trusting, "sneaked", "last")
    # What it could send without asking first was refused, and is not there.
    inside = visit(f"{trusting.http}/health")
    assert inside.run("const one = listen('/events?type=sneaked&from=first'); await until(() => one.items.length); one.source.close(); return one.items[0].event.data") == "last"


def test_a_page_of_the_brokers_own_origin(trusting, visit):
    for host in ("127.0.0.1", "localhost"):
        here = f"http://{host}:{trusting.http_port}"
        page = visit(f"{here}/openapi.json")
        data = page.run("""
            const one = listen('/events?type=own'), two = talk(`ws://${location.host}/events?type=own`);
            await until(() => one.opens && two.opened);
            const answer = await fetch('/event/publish', {method: 'POST', body: JSON.stringify({event_type: 'own', data: 7}), headers: {'content-type': 'application/json'}});
            await until(() => one.items.length && two.items.length);
            one.source.close();
            two.socket.close();
            return [answer.status, one.items[0].event.data, two.items[0].event.data]""")
        assert data == [200, 7, 7]


def test_over_tls(pages, visit, own_broker, tmp_path):
    """HTTP/2 for events and requests, HTTP/1.1 for the WebSocket, as the browser likes."""
    authority = Authority(tmp_path)
    authority.certify("server")
    broker = own_broker(godwit=["--https-port", "0", "--tls-certificate", authority.file("server.pem"), "--tls-key", authority.file("server.key"), "--http-origins", pages.numeric])
    port = re.search(r"https://127\.0\.0\.1:(\d+)", broker.log_text())[1]
    page = visit(f"{pages.numeric}/")
    found = page.run("""
        const many = [...Array(20).keys()].map(i => listen(`${url}/events?type=sealed.${i}`)), socket = talk(url.replace('https', 'wss') + '/events?type=sealed.*');
        await until(() => many.every(one => one.opens) && socket.opened);
        const answers = await Promise.all(many.map((_, i) => fetch(url + '/events', {method: 'POST', headers: {'content-type': 'application/json', 'ce-specversion': '1.0', 'ce-id': `${i}`,
            'ce-source': '/page', 'ce-type': `sealed.${i}`}, body: JSON.stringify({i})})));
        await until(() => many.every(one => one.items.length) && socket.items.length == 20);
        const protocols = new Set(performance.getEntriesByType('resource').map(one => one.nextHopProtocol));
        many.forEach(one => one.source.close());
        return [answers.every(one => one.status == 201), many.every((one, i) => one.items[0].event.data.i == i), [...protocols]]""", url=f"https://127.0.0.1:{port}")
    assert found[:2] == [True, True]
    assert set(found[2]) <= {"h2", ""}, found
