"""The command line tools of librabbitmq (Debian's amqp-tools): another client nobody here wrote."""
import subprocess

import pytest


@pytest.fixture
def tool(broker):
    def run(program, *arguments, body=None, code=0):
        result = subprocess.run([f"amqp-{program}", "--server=127.0.0.1", f"--port={broker.port}", *arguments], input=body,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
        assert result.returncode == code, result.stderr.decode()
        return result.stdout
    return run


def test_publish_and_get(tool, name):
    queue = name()
    assert tool("declare-queue", f"--queue={queue}").decode().strip() == queue
    tool("publish", f"--routing-key={queue}", "--body=Hello from C")
    tool("publish", f"--routing-key={queue}", "--persistent", "--content-type=text/plain", body=b"from standard input\n")
    assert tool("get", f"--queue={queue}") == b"Hello from C"
    assert tool("get", f"--queue={queue}") == b"from standard input\n"
    tool("get", f"--queue={queue}", code=2)
    tool("delete-queue", f"--queue={queue}")


def test_durable_queue(tool, name):
    queue = name()
    tool("declare-queue", f"--queue={queue}", "--durable")
    assert b"406" in tool_error(tool, "declare-queue", f"--queue={queue}")
    tool("delete-queue", f"--queue={queue}")


def tool_error(tool, program, *arguments):
    with pytest.raises(AssertionError) as caught:
        tool(program, *arguments)
    return str(caught.value).encode()


def test_declare_with_a_generated_name(tool):
    queue = tool("declare-queue", "--queue=").decode().strip()
    assert queue.startswith("amq.gen-")


def test_delete_answers_the_count(tool, name):
    queue = name()
    tool("declare-queue", f"--queue={queue}")
    for _ in range(3):
        tool("publish", f"--routing-key={queue}", "--body=x")
    assert tool("delete-queue", f"--queue={queue}").strip() == b"3"


def test_delete_if_empty(tool, name):
    queue = name()
    tool("declare-queue", f"--queue={queue}")
    tool("publish", f"--routing-key={queue}", "--body=x")
    assert b"406" in tool_error(tool, "delete-queue", f"--queue={queue}", "--if-empty")
    tool("delete-queue", f"--queue={queue}")


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 1_000_000])
def test_consume(tool, name, size):
    queue, body = name(), b"z" * size
    tool("declare-queue", f"--queue={queue}")
    for _ in range(3):
        tool("publish", f"--routing-key={queue}", body=body)
    assert tool("consume", f"--queue={queue}", "--count=3", "cat") == body * 3
    tool("get", f"--queue={queue}", code=2)
    tool("delete-queue", f"--queue={queue}")


def test_consume_through_an_exchange(broker, tool, name, channel, eventually):
    exchange, queue = name("x"), name()
    channel.exchange_declare(exchange, "fanout")
    consumer = subprocess.Popen(["amqp-consume", "--server=127.0.0.1", f"--port={broker.port}", f"--queue={queue}",
                                 f"--exchange={exchange}", "--routing-key=x", "--declare", "--count=1", "cat"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        channel.confirm_delivery()

        def delivered():
            tool("publish", f"--exchange={exchange}", "--routing-key=x", "--body=through")
            return consumer.poll() is not None
        assert eventually(delivered, every_s=0.1)
        assert consumer.stdout.read() == b"through"
    finally:
        consumer.kill()
        consumer.wait()
    channel.exchange_delete(exchange)


def test_wrong_password(tool):
    assert b"403" in tool_error(tool, "get", "--queue=x", "--username=guest", "--password=wrong")
