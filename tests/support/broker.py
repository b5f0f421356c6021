"""Starts and stops brokers for tests and benchmarks: Godwit, or RabbitMQ with the same verbs.

A broker here is a program in its own process group with its own data directory and its own free ports, so that several run at
once and none is ever met by accident.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RABBITMQ_HOME = "/usr/lib/rabbitmq/lib"


def free_port():
    """A TCP port that nothing listens on now, on any address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def port_is_free(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            return True
        except OSError:
            return False


def godwit_binary():
    return os.environ.get("GODWIT", os.path.join(ROOT, "build", "godwit"))


class StartFailure(Exception):
    pass


class Broker:
    """What both kinds share: ports, a data directory, a process, a log file."""

    name = None

    def __init__(self, port=None, data_dir=None):
        self.port = port or free_port()
        self.owns_data_dir = data_dir is None
        self.data_dir = data_dir or tempfile.mkdtemp(prefix=f"{self.name}-")
        self.process = None

    @property
    def log_path(self):
        return os.path.join(self.data_dir.rstrip("/") + ".log")

    def log_text(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def signal_group(self, number):
        os.killpg(self.process.pid, number)

    def stop(self, timeout_s=30):
        """SIGTERM, then waits. Answers the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise StartFailure(f"{self.name} did not stop in {timeout_s} s:\n{self.log_text()[-2000:]}")
        self.process = None
        return code

    def kill(self):
        """SIGKILL to everything the broker started."""
        if self.process is None:
            return
        try:
            self.signal_group(signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def cpu_seconds(self):
        """User and system time of the broker's process so far."""
        with open(f"/proc/{self.broker_pid()}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_kib(self):
        """The broker's memory by kind, from the kernel's own accounts."""
        with open(f"/proc/{self.broker_pid()}/status") as status:
            found = re.findall(r"^(RssAnon|RssFile|VmRSS|VmHWM):\s+(\d+) kB", status.read(), re.M)
        return {key: int(value) for key, value in found}

    def broker_pid(self):
        return self.process.pid

    def discard(self):
        """Kills what still runs and removes the files."""
        self.kill()
        if self.owns_data_dir:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            if os.path.exists(self.log_path):
                os.unlink(self.log_path)

    def __enter__(self):
        return self.start()

    def __exit__(self, *error):
        self.discard()


class Godwit(Broker):
    name = "godwit"

    def __init__(self, port=None, data_dir=None, reactors=2, options=(), environment=None):
        super().__init__(port, data_dir)
        self.http_port = free_port()
        self.options = list(options)
        self.reactors = reactors
        self.environment = environment or {}

    def command(self):
        return [godwit_binary(), "serve", "--data-dir", self.data_dir, "--amqp-port", str(self.port),
                "--http-port", str(self.http_port), "--reactors", str(self.reactors), *self.options]

    def start(self, timeout_s=60):
        """Returns once the program has said `ready` on its standard output."""
        log = open(self.log_path, "ab")
        begin = log.tell()
        try:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True, env={**os.environ, **self.environment})
        except OSError as error:
            raise StartFailure(f"{godwit_binary()}: {error.strerror}") from error
        finally:
            log.close()
        deadline = time.monotonic() + timeout_s
        with open(self.log_path, "rb") as said:
            said.seek(begin)
            text = b""
            while time.monotonic() < deadline:
                text += said.read()
                if re.search(rb"\bready\b", text):
                    return self
                if self.process.poll() is not None:
                    text += said.read()
                    self.process = None
                    raise StartFailure(f"godwit ended before it was ready:\n{text.decode(errors='replace')}")
                time.sleep(0.005)
        self.kill()
        raise StartFailure(f"godwit was not ready after {timeout_s} s:\n{text.decode(errors='replace')}")


    def control(self, *arguments):
        """rabbitmqctl's verbs, spoken by `godwit ctl`."""
        result = subprocess.run([godwit_binary(), "ctl", "-q", "--uri", f"amqp://guest:guest@127.0.0.1:{self.port}/", *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if result.returncode != 0:
            raise StartFailure(f"godwit ctl {' '.join(arguments)}: {result.stdout}")
        return result.stdout


class RabbitMQ(Broker):
    """Debian's rabbitmq-server as a private node: its own Erlang cookie, its own ports, no plug-ins but those asked for by name."""

    name = "rabbitmq"

    def __init__(self, port=None, data_dir=None, options=(), plugins=()):
        super().__init__(port, data_dir)
        self.plugins = list(plugins)
        self.distribution_port = free_port()
        self.options = list(options)
        self.node = f"godwit-test-{self.port}@localhost"
        # The name of a node is part of its data directory, so a restart must use the same one.

    def sbin(self, program):
        for version in sorted(os.listdir(RABBITMQ_HOME), reverse=True):
            path = os.path.join(RABBITMQ_HOME, version, "sbin", program)
            if os.path.exists(path):
                return path
        raise StartFailure("rabbitmq-server is not installed")

    def variables(self):
        base = self.data_dir
        return {**os.environ, "HOME": base, "RABBITMQ_NODENAME": self.node,
                "RABBITMQ_MNESIA_BASE": os.path.join(base, "mnesia"), "RABBITMQ_LOG_BASE": os.path.join(base, "log"),
                "RABBITMQ_CONFIG_FILE": os.path.join(base, "rabbitmq.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": os.path.join(base, "enabled_plugins"),
                "RABBITMQ_DIST_PORT": str(self.distribution_port), "RABBITMQ_PID_FILE": os.path.join(base, "pid")}

    def start(self, timeout_s=90):
        os.makedirs(self.data_dir, exist_ok=True)
        with open(os.path.join(self.data_dir, "rabbitmq.conf"), "w") as config:
            config.write(f"listeners.tcp.default = {self.port}\nloopback_users.guest = true\n")
            config.write("".join(option + "\n" for option in self.options))
        with open(os.path.join(self.data_dir, "enabled_plugins"), "w") as enabled:
            enabled.write(f"[{','.join(self.plugins)}].\n" if self.plugins else "")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.sbin("rabbitmq-server")], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True, env=self.variables())
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StartFailure(f"rabbitmq-server ended:\n{self.log_text()[-2000:]}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    probe.sendall(b"AMQP\x00\x00\x09\x01")
                    if probe.recv(1) == b"\x01":
                        return self
            except OSError:
                pass
            time.sleep(0.1)
        self.kill()
        raise StartFailure("rabbitmq-server was not ready")

    def stop(self, timeout_s=60):
        if self.process is not None and self.process.poll() is None:
            self.control("stop")
        if self.process is None:
            return None
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def broker_pid(self):
        # The script becomes the virtual machine by way of a shell or two: take the one that uses the most memory.
        with open(os.path.join(self.data_dir, "pid")) as pid:
            return int(pid.read())

    def control(self, *arguments):
        result = subprocess.run([self.sbin("rabbitmqctl"), "-q", "-n", self.node, *arguments], env=self.variables(),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if result.returncode != 0:
            raise StartFailure(f"rabbitmqctl {' '.join(arguments)}: {result.stdout}")
        return result.stdout


def make_broker(kind, **arguments):
    return {"godwit": Godwit, "rabbitmq": RabbitMQ}[kind](**arguments)
