"""The brokers that are measured, as processes: HareMQ, and Debian's RabbitMQ as a control.

In: the path of a haremq binary, or nothing for RabbitMQ. Out: an address, a URI, CPU time and memory from /proc. What is
done to them is not known here.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "connections"))

import process  # noqa: E402

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60

# Where Debian's package puts the program that does not change its user.
RABBITMQ_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"

# Allocators give back what is free after a while.
SETTLE_SECONDS = 4.0


class Measured(process.Running):
    """What all measured brokers have."""

    name = ""

    @property
    def uri(self):
        return "amqp://guest:guest@127.0.0.1:%d/%%2f" % self.address[1]

    def status_bytes(self, field):
        with open("/proc/%d/status" % self.pid, encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise RuntimeError("the broker is gone")

    def private_bytes(self):
        """Memory that is its own: RssAnon, without the mapped files of the program."""
        return self.status_bytes("RssAnon")

    def settled_bytes(self):
        """The same, after a while and when it falls no more."""
        last = self.private_bytes()
        while True:
            time.sleep(SETTLE_SECONDS)
            now = self.private_bytes()
            if now > last * 0.995:
                return now
            last = now

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))


class HareMQ(Measured):
    """A HareMQ of our own with its defaults, on a free port and with a new data folder."""

    name = "haremq"

    def __init__(self, binary, words=()):
        self.binary, self.words = binary, list(words)
        self.folder = tempfile.mkdtemp(prefix="haremq-bench-")
        self.data = os.path.join(self.folder, "data")
        self.port, self.http_port = process.free_ports(2)
        self.start()

    def start(self):
        with open(os.path.join(self.folder, "broker.log"), "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--data-dir", self.data, "--amqp", "127.0.0.1:%d" % self.port,
                 "--http", "127.0.0.1:%d" % self.http_port] + self.words,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        super().__init__(self.port, self.process.pid)
        try:
            listening(self.address, self.process)
        except RuntimeError:
            self.stop()
            raise

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        end(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


class RabbitMQ(Measured):
    """Debian's RabbitMQ with its defaults, on ports and in folders of its own; its node and port mapper end with it."""

    name = "rabbitmq"

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="rabbitmq-bench-")
        port, distribution_port, mapper_port = process.free_ports(3)
        self.environment = dict(
            os.environ, HOME=self.folder, ERL_EPMD_PORT=str(mapper_port), ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME="bench%d@localhost" % port, RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(port), RABBITMQ_DIST_PORT=str(distribution_port),
            RABBITMQ_MNESIA_BASE=os.path.join(self.folder, "data"), RABBITMQ_LOG_BASE=os.path.join(self.folder, "log"),
            RABBITMQ_CONF_ENV_FILE=os.path.join(self.folder, "none"), RABBITMQ_CONFIG_FILE=os.path.join(self.folder, "none"),
            RABBITMQ_ENABLED_PLUGINS_FILE=os.path.join(self.folder, "plugins"), LC_ALL="C.UTF-8")
        with open(os.path.join(self.folder, "broker.log"), "wb") as log:
            self.process = subprocess.Popen([RABBITMQ_SERVER], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, env=self.environment, cwd=self.folder)
        super().__init__(port, self.process.pid)
        try:
            listening(self.address, self.process)
            self.pid = virtual_machine(self.process.pid)
        except RuntimeError:
            with open(os.path.join(self.folder, "broker.log"), encoding="utf-8", errors="replace") as log:
                sys.stderr.write(log.read()[-3000:])
            self.stop()
            raise

    @staticmethod
    def is_installed():
        return os.path.exists(RABBITMQ_SERVER)

    def stop(self):
        end(self.process)
        # The port mapper detaches itself; it is ours by its port.
        mapper = shutil.which("epmd")
        if mapper:
            subprocess.run([mapper, "-kill"], env=self.environment, capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def listening(address, started):
    """Waits until something accepts connections there."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and started.poll() is None:
        try:
            socket.create_connection(address, 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the broker did not start")


def virtual_machine(pid):
    """The process that does the work: the one among it and its descendants whose name begins with beam."""
    with open("/proc/%d/comm" % pid, encoding="ascii") as comm:
        if comm.read().startswith("beam"):
            return pid
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as children:
        for child in children.read().split():
            found = virtual_machine(int(child))
            if found is not None:
                return found
    return None


def end(started):
    if started.poll() is None:
        started.send_signal(signal.SIGTERM)
    try:
        started.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
