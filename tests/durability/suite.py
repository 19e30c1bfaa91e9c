"""The parts of this suite: their tests, the options that they share, and what they say of the running broker.

In: the functions that the other modules register. Out: the list of tests, in the order of the parts; readings of a
process's memory. What a test checks is not known here.
"""

import random
import time

from harness import equal

PARTS = ("ledger", "kills", "restart", "large", "backlog", "full-disk", "power-loss", "doctor", "bit-flips")
TESTS = []

# What a backlog may cost in memory beside an idle broker: a fixed part, and the default of `store.cache_bytes_max`.
BACKLOG_BYTES_MAX = 16_000_000 + (32 << 20)

# When nothing comes for the first time, it is asked whether there is more; if so, it has to come within the second.
IDLE_SECONDS = 0.3
EMPTY_SECONDS_MAX = 30.0


class Options:
    """What the command line asks for."""

    def __init__(self, arguments):
        self.rounds, self.is_long = arguments.rounds, arguments.long
        self.messages, self.queues = arguments.messages, arguments.queues
        self.seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed

    def rounds_of(self, gate, long):
        """How many rounds a loop has, unless the command line says it."""
        return self.rounds if self.rounds is not None else (long if self.is_long else gate)

    def chance(self, purpose):
        """Chances of a test's own, so that a test alone meets the same ones as in a whole run."""
        return random.Random("%d %s" % (self.seed, purpose))


def part(name, title):
    """Registers a test of a part. It is called with a context (see `harness.Context`), options and `say`."""
    assert name in PARTS, name

    def register(body):
        TESTS.append((name, title, body))
        return body

    return register


def chosen(names):
    """The tests of the named parts, or all, in the order of the parts."""
    return sorted((test for test in TESTS if not names or test[0] in names), key=lambda test: PARTS.index(test[0]))


def anonymous_bytes(broker):
    """Memory of the process that is not a file's: `RssAnon`."""
    return memory(broker, "RssAnon")


def memory(broker, field):
    with open("/proc/%d/status" % broker.process.pid, encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise AssertionError("the broker has no %s: is it gone?" % field)


def mib(count):
    return "%.1f MiB" % (count / (1 << 20))


def eventually_at_most(reading, most, what, limit_s=30.0):
    """Waits until a reading is small enough, and gives it."""
    deadline = time.monotonic() + limit_s
    while True:
        value = reading()
        if value <= most:
            return value
        assert time.monotonic() < deadline, "%s: %s within %d s, allowed are %s" % (what, value, limit_s, most)
        time.sleep(0.05)


def deliveries_until_empty(channel, queue):
    """Deliveries of a running consumer until the broker tells of no more that are ready, and none is on its way. For
    queues of which the count promises nothing: messages expire, or turn out to be damaged when they are read."""
    asking = channel.connection.channel()
    deadline = time.monotonic() + EMPTY_SECONDS_MAX
    while True:
        try:
            yield channel.wait("basic.deliver", limit_s=IDLE_SECONDS)
            deadline = time.monotonic() + EMPTY_SECONDS_MAX
        except TimeoutError:
            left = asking.declare(queue, passive=True).messages
            if left == 0 and not channel.connection.events[channel.number]:
                return
            assert time.monotonic() < deadline, "%s keeps %d messages to itself" % (queue, left)


def no_panic(broker):
    assert "panicked" not in broker.log, "a panic in the log:\n" + broker.log


def complaints(log):
    """What a log says at the levels that a person must see."""
    return [line for line in log.splitlines() if " WARN " in line or " ERROR " in line]


def killed(broker):
    """kill -9. The broker must have lived until then."""
    equal(broker.process.poll(), None, "exit code before the kill, with\n" + broker.log)
    broker.kill()
    no_panic(broker)
