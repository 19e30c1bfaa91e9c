#!/usr/bin/env python3
"""What a message costs the broker, and what a durable declare costs.

In: the path of a haremq binary (`--broker`), which is started anew for each load. Out: a table with the median of the
rounds, and the lowest and highest round where they matter. The broker's CPU time comes from /proc/PID/stat, so only
Linux has it; rates depend on how fast these clients are, the CPU of a message far less.

One process publishes frames that were encoded before, another counts deliveries by their bytes, which all have the
same size. The publisher never runs further ahead of the consumer than a window, so the queue stays short.
"""

import argparse
import multiprocessing
import os
import statistics
import struct
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "connections"))

import frames  # noqa: E402
from client import Client  # noqa: E402
from process import Started  # noqa: E402

QUEUE = "bench.throughput"
TAG = "bench"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

READ_BYTES = 1 << 18
CHUNK_BYTES = 1 << 16
WINDOW_BYTES = 8 << 20
WINDOW_MESSAGES = 20_000
STALL_SECONDS_MAX = 30
PAUSE_SECONDS = 0.0002

PREFETCH = 200
# A tick is 10 ms: a round must cost the broker a good many of them.
WARM_UP_SHARE = 0.1

DECLARE_CHANNELS = 50
SYNC_PROBES = 200


class Load:
    """One kind of traffic through one queue."""

    def __init__(self, name, body_bytes, messages, acknowledges):
        self.name = name
        self.body_bytes = body_bytes
        self.messages = messages
        self.acknowledges = acknowledges


LOADS = (
    Load("16 B, auto-ack", 16, 3_000_000, False),
    Load("1 KiB, auto-ack", 1024, 1_000_000, False),
    Load("1 KiB, each acked, prefetch %d" % PREFETCH, 1024, 500_000, True),
)


def cpu_seconds(pid):
    """User and kernel time of a process, ended threads included."""
    with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as stat:
        # The name in parentheses may hold anything; utime is the 14th field, and the 12th behind it.
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) / TICKS_A_SECOND, int(fields[12]) / TICKS_A_SECOND


def publish(address, body_bytes, messages, received, go):
    """Publishes so many messages, at most a window ahead of what was received."""
    client = Client(address)
    message = frames.basic_publish(QUEUE, bytes(body_bytes))
    chunk_messages = max(CHUNK_BYTES // len(message), 1)
    chunk = message * chunk_messages
    window = max(min(WINDOW_BYTES // body_bytes, WINDOW_MESSAGES), chunk_messages)
    go.wait()
    sent = 0
    while sent < messages:
        while sent - received.value > window - chunk_messages:
            time.sleep(PAUSE_SECONDS)
        count = min(chunk_messages, messages - sent)
        client.socket.sendall(chunk if count == chunk_messages else message * count)
        sent += count
    client.close()


class Consumer:
    """Consumes and counts; acknowledges each delivery if it is asked to."""

    def __init__(self, address, load):
        self.client = Client(address)
        self.client.declare(QUEUE, 0)
        if load.acknowledges:
            self.client.call(frames.method(1, (60, 10), struct.pack(">IHB", 0, PREFETCH, 0)), (60, 11))
        flags = 0 if load.acknowledges else frames.CONSUME_NO_ACK
        self.client.call(frames.basic_consume(QUEUE, TAG, flags), frames.BASIC_CONSUME_OK)
        self.acknowledges = load.acknowledges
        self.delivery_bytes = frames.delivery_bytes(QUEUE, TAG, load.body_bytes)
        self.total_bytes = 0
        self.acknowledged = 0
        self.buffer = bytearray(READ_BYTES)

    def run(self, until, received):
        """Counts until so many deliveries have come since the beginning."""
        peer, buffer = self.client.socket, self.buffer
        peer.settimeout(STALL_SECONDS_MAX)
        until_bytes = until * self.delivery_bytes
        while self.total_bytes < until_bytes:
            count = peer.recv_into(buffer)
            if count == 0:
                raise RuntimeError("the broker closed the connection")
            self.total_bytes += count
            whole = self.total_bytes // self.delivery_bytes
            received.value = whole
            if self.acknowledges and whole > self.acknowledged:
                peer.sendall(b"".join(map(ack, range(self.acknowledged + 1, whole + 1))))
                self.acknowledged = whole

    def end(self, messages):
        """Nothing is left, neither ready nor unsettled, and no octet came too many."""
        if self.total_bytes != messages * self.delivery_bytes:
            raise RuntimeError("%d octets came instead of %d" % (
                self.total_bytes, messages * self.delivery_bytes))
        self.client.socket.sendall(frames.method(1, (60, 30), frames.shortstr(TAG) + b"\x00"))
        self.client.expect((60, 31))
        self.client.delete(QUEUE)
        self.client.close()


ACK_HEAD = struct.pack(">BHI", frames.METHOD, 1, 13) + struct.pack(">HH", 60, 80)
ACK_TAIL = b"\x00" + bytes([frames.FRAME_END])


def ack(tag):
    return ACK_HEAD + tag.to_bytes(8, "big") + ACK_TAIL


def measure(binary, load):
    """One round: microseconds of user and of kernel time a message, and messages a second."""
    broker = Started(binary)
    try:
        received = multiprocessing.Value("q", 0, lock=False)
        go = multiprocessing.Event()
        publisher = multiprocessing.Process(
            target=publish, args=(broker.address, load.body_bytes, load.messages, received, go))
        consumer = Consumer(broker.address, load)
        publisher.start()
        go.set()
        warm_up = int(load.messages * WARM_UP_SHARE)
        consumer.run(warm_up, received)
        user, kernel = cpu_seconds(broker.pid)
        first, started = received.value, time.monotonic()
        consumer.run(load.messages, received)
        seconds = time.monotonic() - started
        user_end, kernel_end = cpu_seconds(broker.pid)
        publisher.join()
        consumer.end(load.messages)
        count = load.messages - first
        return (user_end - user) / count * 1e6, (kernel_end - kernel) / count * 1e6, count / seconds
    finally:
        broker.stop()


def measure_declares(binary, channels, queues):
    """Durable declares, one after the other on each channel: declares a second, microseconds of CPU each."""
    broker = Started(binary)
    try:
        client = Client(broker.address)
        for channel in range(2, channels + 1):
            client.call(frames.channel_open(channel), frames.CHANNEL_OPEN_OK)
        before, started = sum(cpu_seconds(broker.pid)), time.monotonic()
        for first in range(0, queues, channels):
            client.socket.sendall(b"".join(
                frames.queue_declare("bench.%d" % (first + n), frames.QUEUE_DURABLE, n + 1) for n in range(channels)))
            for _ in range(channels):
                client.expect(frames.QUEUE_DECLARE_OK)
        seconds = time.monotonic() - started
        cpu = sum(cpu_seconds(broker.pid)) - before
        client.close()
        return queues / seconds, cpu / queues * 1e6
    finally:
        broker.stop()


def sync_microseconds():
    """The median time of an append of 4 KiB with fdatasync, where the brokers of this script keep their data."""
    readings = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNC_PROBES):
            file.write(bytes(4096))
            file.flush()
            started = time.monotonic()
            os.fdatasync(file.fileno())
            readings.append(time.monotonic() - started)
    return statistics.median(readings) * 1e6


def middle(values, form):
    """Median, and the range."""
    return "%s (%s to %s)" % tuple(form % value for value in (
        statistics.median(values), min(values), max(values)))


def other_load():
    """How many processes wanted to run in the last minute, this script's own among them."""
    return "load average %.1f on %d cores" % (os.getloadavg()[0], os.cpu_count())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", required=True, help="the haremq binary to start")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual number of messages")
    args = parser.parse_args()
    binary = os.path.abspath(args.broker)

    print("# before: %s; fdatasync of 4 KiB takes %.0f us" % (other_load(), sync_microseconds()), flush=True)
    print("| load | broker CPU a message, us | of that in the kernel, us | messages a second |\n|---|---|---|---|")
    for load in LOADS:
        load.messages = int(load.messages * args.scale)
        rounds = [measure(binary, load) for _ in range(args.rounds)]
        print("| %s | %s | %.2f | %s |" % (
            load.name, middle([user + kernel for user, kernel, _ in rounds], "%.2f"),
            statistics.median(kernel for _, kernel, _ in rounds),
            middle([rate for _, _, rate in rounds], "%.0f")), flush=True)
    print("\n| durable declares | a second | broker CPU each, us |\n|---|---|---|")
    for channels, queues in ((1, 2000), (DECLARE_CHANNELS, 10_000)):
        queues = max(int(queues * args.scale) // channels, 1) * channels
        rounds = [measure_declares(binary, channels, queues) for _ in range(args.rounds)]
        print("| %d at a time | %s | %s |" % (
            channels, middle([rate for rate, _ in rounds], "%.0f"), middle([cpu for _, cpu in rounds], "%.0f")),
            flush=True)
    print("\n# after: %s; fdatasync of 4 KiB takes %.0f us" % (other_load(), sync_microseconds()))


if __name__ == "__main__":
    main()
