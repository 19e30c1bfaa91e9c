"""The running broker as a process, and the list of tests.

In: the path of the program. Out: brokers with folders and logs of their own, started, signalled and reaped;
what a test may say (pass, fail, skip). What the broker should do is written in the tests alone.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from amqp import DEADLOCK_S, Closed, Connection, Gone

TESTS = []
READY = re.compile(r"ready in \d+ ms: AMQP on (.*?), HTTP on (.*?), data in ([^\n\"]*)")


class Skip(Exception):
    """The machine cannot run this test; the reason is printed."""


def test(name):
    """Registers a test under its name in words."""

    def register(body):
        TESTS.append((name, body))
        return body

    return register


def equal(found, expected, what="value"):
    assert found == expected, "%s is %r, expected %r" % (what, found, expected)


def contains(text, part, what="text"):
    assert part in text, "%s has no %r in:\n%s" % (what, part, text)


def eventually(condition, what, limit_s=DEADLOCK_S):
    """Waits until something is true."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "within %d s not true: %s" % (limit_s, what)
        time.sleep(0.01)


@contextlib.contextmanager
def refused(scope, code, text):
    """The block must end with this close from the broker. `text` stands behind the name of the code."""
    try:
        yield
    except Closed as closed:
        found = (closed.scope, closed.code, closed.text.split(" - ", 1)[-1])
        equal(found, (scope, code, text), "close")
        return
    raise AssertionError("not refused with %d %s" % (code, text))


def password_hash(password, algorithm="sha256"):
    """A hash as RabbitMQ stores it: four octets of salt, then the digest of salt and password."""
    salt = bytes([0x90, 0x8D, 0xC6, 0x0A])
    return base64.b64encode(salt + hashlib.new(algorithm, salt + password.encode()).digest()).decode()


def user(name, password="pw", algorithm="sha256", tags=(), **more):
    names = {"sha256": "rabbit_password_hashing_sha256", "sha512": "rabbit_password_hashing_sha512",
             "md5": "rabbit_password_hashing_md5"}
    return dict(name=name, password_hash=password_hash(password, algorithm), tags=list(tags),
                hashing_algorithm=names[algorithm], **more)


def permission(name, configure=".*", write=".*", read=".*", vhost="/"):
    return dict(user=name, vhost=vhost, configure=configure, write=write, read=read)


def free_port(host="127.0.0.1"):
    """A port that was free a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def other_address():
    """An IPv4 address of this machine that is not a loopback one."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe:
        try:
            # Nothing is sent: connecting a datagram socket only picks the address to send from.
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        raise Skip("this machine has loopback addresses only")
    return address


class Broker:
    """One run of the program as a broker."""

    def __init__(self, program, folder, arguments, environment, number, prefix=()):
        self.log_path = os.path.join(folder, "log-%d" % number)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*prefix, program, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log)
        self.amqp, self.http, self.data = [], [], None

    @property
    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def until_ready(self):
        deadline = time.monotonic() + 2 * DEADLOCK_S
        while True:
            found = READY.search(self.log)
            if found:
                break
            if self.process.poll() is not None:
                raise AssertionError("the broker ended with %d:\n%s" % (self.process.returncode, self.log))
            assert time.monotonic() < deadline, "the broker does not get ready:\n" + self.log
            time.sleep(0.005)
        self.amqp, self.http = (
            [] if part == "no address" else part.split(", ") for part in found.groups()[:2])
        self.data = found.group(3)
        return self

    @property
    def port(self):
        return int(self.amqp[0].rsplit(":", 1)[1])

    @property
    def http_port(self):
        return int(self.http[0].rsplit(":", 1)[1])

    def connect(self, **options):
        return Connection(self.port, **options)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        return self.process.wait(2 * DEADLOCK_S)

    def stop(self):
        """SIGTERM, and a clean end."""
        self.signal(signal.SIGTERM)
        equal(self.wait(), 0, "exit code after SIGTERM")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def reload(self, expect):
        """SIGHUP, and wait until the log says `expect` once more than before."""
        before = self.log.count(expect)
        self.signal(signal.SIGHUP)
        eventually(lambda: self.log.count(expect) > before, "log after SIGHUP: " + expect)


class Context:
    """What one test works with: a folder, and brokers that end with the test."""

    def __init__(self, program):
        self.program = program
        self.folder = tempfile.mkdtemp(prefix="haremq-system-")
        self.brokers = []
        self.wires = []
        self.number = 0

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, name, content):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        return self.path(name)

    def environment(self, extra=None):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, **(extra or {})}

    def spawn(self, *arguments, environment=None, prefix=()):
        """Starts the program with exactly these arguments."""
        self.number += 1
        broker = Broker(self.program, self.folder, arguments, self.environment(environment), self.number, prefix)
        self.brokers.append(broker)
        return broker

    def broker(self, *arguments, environment=None, data="data"):
        """A broker on ports that the system picks, ready to serve."""
        return self.spawn("serve", "--data-dir", data, "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0",
                          *arguments, environment=environment).until_ready()

    def run(self, *arguments, environment=None):
        """Runs the program to its end: exit code, standard output, standard error."""
        done = subprocess.run([self.program, *arguments], cwd=self.folder, env=self.environment(environment),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * DEADLOCK_S, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def fails(self, code, part, *arguments, environment=None):
        """The program must end with this code and one line that says what is wrong."""
        found, _, errors = self.run(*arguments, environment=environment)
        lines = [line for line in errors.splitlines() if line.startswith("haremq: ")]
        equal((found, len(lines)), (code, 1), "exit code and lines of\n%s" % errors)
        contains(lines[0], part, "the line")
        assert "panicked" not in errors, errors
        return lines[0]

    def close(self):
        for broker in self.brokers:
            if broker.process.poll() is None:
                broker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def failure_log(self):
        return "".join("--- log %d\n%s" % (number, broker.log[-4000:])
                       for number, broker in enumerate(self.brokers, 1))


__all__ = ["Skip", "test", "equal", "contains", "eventually", "refused", "user", "permission", "free_port",
           "other_address", "password_hash", "Gone", "Closed", "DEADLOCK_S", "TESTS", "Context"]
