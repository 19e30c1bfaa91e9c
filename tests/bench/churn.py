#!/usr/bin/env python3
"""Things come and go, and memory returns: connections, channels, queues, bindings, consumers, exchanges, messages.

In: the path of a haremq binary (`--broker`), which is also the load generator. Out: one `ok` or `not ok` line for each check, `1..N`,
the line `N passed, M failed`, and an exit code. After a number of rounds, and after ten times as many, the broker holds the
same: what a round leaves behind would show ten times. `--long` goes on for an hour.
"""

import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import brokers  # noqa: E402
import frames  # noqa: E402
import loads  # noqa: E402
from client import Client  # noqa: E402

# How many of each thing come and go in a round.
CONNECTIONS = 100
CHANNELS = 400
QUEUES = 200
DURABLE_QUEUES = 100
BINDINGS = 400
CONSUMERS = 400
EXCHANGES = 100
MESSAGES = 5000

# Connections that share the durable ones, because each of them waits for its sync.
CLIENTS = 20

# Names are new in each round, so that a map that forgets nothing grows.
ROUNDS, TIMES = 4, 10

# Before anything is counted: the catalogue's cache and the allocator's arenas fill up, once.
WARM_UP_ROUNDS = 24
LONG_SECONDS = 3600
LONG_LOOK_SECONDS = 300

# What ten times as many rounds may hold more: allocators do not give back the last page.
SLACK_BYTES = 2 << 20

# What stays on the disk after churn of durable things: journal files to be written again, a catalogue, its export.
DATA_BYTES_MAX = 400 << 20

EXCHANGE_DECLARE_OK, EXCHANGE_DELETE_OK, UNBIND_OK, BIND_OK = (40, 11), (40, 21), (50, 51), (50, 21)
CANCEL_OK, CONSUME_OK = (60, 31), (60, 21)


class Report:
    """Counts checks, and prints each as a line of TAP."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, holds, figures):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print("%s %d - %s: %s" % ("ok" if holds else "not ok", self.passed + self.failed, name, figures), flush=True)

    def end(self):
        print("1..%d\n%d passed, %d failed" % (self.passed + self.failed, self.passed, self.failed), flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1


def exchange_declare(name):
    # Durable, of type topic.
    return frames.method(1, (40, 10), b"\x00\x00" + frames.shortstr(name) + frames.shortstr("topic") + b"\x02" + frames.EMPTY_TABLE)


def exchange_delete(name):
    return frames.method(1, (40, 20), b"\x00\x00" + frames.shortstr(name) + b"\x00")


def queue_unbind(queue, exchange, key):
    return frames.method(1, (50, 50), b"\x00\x00" + frames.shortstr(queue) + frames.shortstr(exchange) + frames.shortstr(key)
                         + frames.EMPTY_TABLE)


def cancel(tag):
    return frames.method(1, (60, 30), frames.shortstr(tag) + b"\x00")


def churn_round(perf, broker, number):
    """Some of everything, by names that were never used before."""
    name = "churn.%d" % number
    for thing, count in (("connections", CONNECTIONS), ("channels", CHANNELS), ("queues", QUEUES), ("consumers", CONSUMERS)):
        perf.run(broker, "churn " + thing, ["-C", count, "-u", name, "--clients", 2], counted=True)
    perf.run(broker, "throughput", ["-C", MESSAGES, "-p", "-s", 1024, "-c", 500, "-P", 200, "-u", name, "--verify"], counted=True)
    clients = [Client(broker.address) for _ in range(CLIENTS)]
    client = clients[0]
    queues = ["%s.queue.%d" % (name, n) for n in range(DURABLE_QUEUES)]
    exchanges = ["%s.exchange.%d" % (name, n) for n in range(EXCHANGES)]
    spread(clients, map(frames.queue_declare, queues), frames.QUEUE_DECLARE_OK)
    spread(clients, map(exchange_declare, exchanges), EXCHANGE_DECLARE_OK)
    bindings = [(queues[n % len(queues)], exchanges[n % len(exchanges)] if n % 2 else "amq.direct", "key.%d.%d.#" % (number, n))
                for n in range(BINDINGS)]
    spread(clients, (loads.queue_bind(*one) for one in bindings), BIND_OK)
    # Half of them go by themselves, the others with what they bind.
    spread(clients, (queue_unbind(*one) for one in bindings[::2]), UNBIND_OK)
    loads.pipelined(client, (frames.basic_consume(queue, "tag.%d.%s" % (number, queue)) for queue in queues), CONSUME_OK)
    loads.pipelined(client, (cancel("tag.%d.%s" % (number, queue)) for queue in queues[::2]), CANCEL_OK)
    spread(clients, map(frames.queue_declare, queues), frames.QUEUE_DECLARE_OK)
    # A message each to a queue without a consumer, dropped with the queue.
    client.socket.sendall(b"".join(frames.basic_publish(queue, b"left behind") for queue in queues[::2]))
    spread(clients, map(exchange_delete, exchanges[::2]), EXCHANGE_DELETE_OK)
    spread(clients[1:], map(frames.queue_delete, queues[::2]), frames.QUEUE_DELETE_OK)
    spread(clients[1:], map(exchange_delete, exchanges[1::2]), EXCHANGE_DELETE_OK)
    # A client that just goes, with consumers at work; its queues are deleted by the others.
    client.socket.close()
    spread(clients[1:], map(frames.queue_delete, queues[1::2]), frames.QUEUE_DELETE_OK)
    for other in clients[1:]:
        other.close()


def spread(clients, calls, answer):
    """Calls of which each is answered after a sync, shared out among connections so that they share the syncs."""
    calls = list(calls)
    for number, client in enumerate(clients):
        client.socket.sendall(b"".join(calls[number::len(clients)]))
    for number, client in enumerate(clients):
        for _ in calls[number::len(clients)]:
            client.expect(answer)


def held(broker):
    """What the broker holds: memory of its own, open files."""
    return broker.settled_bytes(), broker.descriptors()


def data_bytes(broker):
    return sum(os.path.getsize(os.path.join(folder, file)) for folder, _, files in os.walk(broker.data) for file in files)


def mib(octets):
    return "%.1f MiB" % (octets / 2 ** 20)


def gate(perf, broker, rounds, report):
    for number in range(-WARM_UP_ROUNDS, rounds):
        churn_round(perf, broker, number)
    memory, files = held(broker)
    for number in range(rounds, rounds * TIMES):
        churn_round(perf, broker, number)
    memory_later, files_later = held(broker)
    report.check("memory after %d rounds is not above memory after %d" % (rounds * TIMES, rounds),
                 memory_later <= memory + SLACK_BYTES, "%s, then %s" % (mib(memory), mib(memory_later)))
    # A file of the journal more or less is its own affair.
    report.check("open files are as many", files_later <= files + 4, "%d, then %d" % (files, files_later))
    data = data_bytes(broker)
    report.check("nothing piles up on the disk", data <= DATA_BYTES_MAX, mib(data))


def for_long(perf, broker, seconds, report):
    """Rounds until the time is over; the second reading is what the last is held against."""
    began, number, readings = time.monotonic(), 0, []
    while time.monotonic() - began < seconds:
        until = time.monotonic() + min(LONG_LOOK_SECONDS, seconds / 6)
        while time.monotonic() < until:
            churn_round(perf, broker, number)
            number += 1
        readings.append(held(broker))
        print("# %5.0f s, %d rounds: %s, %d open files, data folder %s" % (
            time.monotonic() - began, number, mib(readings[-1][0]), readings[-1][1], mib(data_bytes(broker))), flush=True)
    report.check("memory after %d rounds is what it was" % number, readings[-1][0] <= readings[1][0] + SLACK_BYTES,
                 ", ".join(mib(memory) for memory, _ in readings))
    report.check("open files are as many", readings[-1][1] <= readings[1][1] + 4, ", ".join(str(files) for _, files in readings))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="before the first reading, behind a warm-up; ten times as many before the second")
    parser.add_argument("--long", action="store_true", help="an hour instead")
    parser.add_argument("--seconds", type=float, default=LONG_SECONDS, help="of --long")
    options = parser.parse_args()
    binary, report = os.path.abspath(options.broker), Report()
    broker = brokers.HareMQ(binary)
    try:
        perf = loads.Perf(binary, 1)
        if options.long:
            for_long(perf, broker, options.seconds, report)
        else:
            gate(perf, broker, options.rounds, report)
    finally:
        broker.stop()
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
