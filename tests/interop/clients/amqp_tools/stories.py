"""The command line tools of rabbitmq-c (Debian's amqp-tools): a client in C."""
import subprocess
import tempfile

from story import PORT, restart_the_broker, same, story, tell


def tool(program, *arguments, body=None, code=0, user="guest:guest", vhost="%2f"):
    """Runs amqp-PROGRAM, which must end with this code. Answers what it printed, with what it complained of after that."""
    done = subprocess.run([f"amqp-{program}", f"--url=amqp://{user}@127.0.0.1:{PORT}/{vhost}", *arguments], input=body, timeout=30,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    text = (done.stdout + done.stderr).decode()
    same(done.returncode, code, text)
    return text


def fails(expected, program, *arguments, **more):
    text = tool(program, *arguments, code=1, **more)
    assert expected in text, text


@story
def publish_and_get():
    same(tool("declare-queue", "--queue=tools.one").strip(), "tools.one")
    tool("publish", "--routing-key=tools.one", "--body=Hello from C")
    tool("publish", "--routing-key=tools.one", "--line-buffered", body=b"first\nsecond\n")
    same([tool("get", "--queue=tools.one") for _ in range(3)], ["Hello from C", "first\n", "second\n"])
    tool("get", "--queue=tools.one", code=2)
    tool("publish", "--routing-key=tools.one", "--body=x")
    fails("406", "delete-queue", "--queue=tools.one", "--if-empty")
    same(tool("delete-queue", "--queue=tools.one").strip(), "1")


@story
def consume():
    tool("declare-queue", "--queue=tools.many")
    body = b"z" * 200_000
    for _ in range(5):
        tool("publish", "--routing-key=tools.many", "--persistent", "--content-type=text/plain", "--header=kind: big", body=body)
    same(len(tool("consume", "--queue=tools.many", "--prefetch-count=2", "--count=5", "cat")), 1_000_000)
    same(tool("delete-queue", "--queue=tools.many").strip(), "0")


@story
def a_failing_command_gives_its_message_back():
    tool("declare-queue", "--queue=tools.failing")
    tool("publish", "--routing-key=tools.failing", "--body=x")
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:   # amqp-consume takes a command's options for its own.
        script.write("cat > /dev/null; exit 1\n")
        script.flush()
        tool("consume", "--queue=tools.failing", "--count=1", "sh", script.name)
    same(tool("get", "--queue=tools.failing"), "x")
    tool("delete-queue", "--queue=tools.failing")


@story
def errors():
    fails("404", "get", "--queue=tools.none")
    fails("403", "declare-queue", "--queue=amq.mine")
    tool("declare-queue", "--queue=tools.durable", "--durable")
    fails("inequivalent arg 'durable' for queue 'tools.durable' in vhost '/': received 'false' but current is 'true'",
          "declare-queue", "--queue=tools.durable")
    tool("delete-queue", "--queue=tools.durable")
    fails("403", "get", "--queue=x", user="guest:wrong")
    fails("530", "get", "--queue=x", vhost="no-such-vhost")


@story
def recovery():
    tool("declare-queue", "--queue=tools.kept", "--durable")
    tool("publish", "--routing-key=tools.kept", "--persistent", "--body=kept")
    tool("publish", "--routing-key=tools.kept", "--body=lost")
    restart_the_broker()
    same(tool("get", "--queue=tools.kept"), "kept")
    tool("get", "--queue=tools.kept", code=2)
    tool("delete-queue", "--queue=tools.kept")


tell()
