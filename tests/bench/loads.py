"""Load on a broker: by `haremq perf` where it fits, by raw sockets with frames encoded before where it does not.

In: a broker (`brokers.py`) and what is to be done to it. Out: figures by name. What they should be is not known here.
"""

import json
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "connections"))

import crowd  # noqa: E402
import frames  # noqa: E402
from client import Client  # noqa: E402

PERF_SECONDS_MAX = 1800
PROBE_SECONDS = 0.002

QUEUE = "haremq-bench"
READ_BYTES = 1 << 18
CHUNK_BYTES = 1 << 16
WINDOW_MESSAGES = 20_000
STALL_SECONDS_MAX = 60
WARM_UP_SHARE = 0.1

DESTINATION = "bench.bound"


class Perf:
    """`haremq perf` of one binary."""

    def __init__(self, binary, seconds, warmup=1.0):
        self.binary, self.seconds, self.warmup = binary, seconds, warmup

    def run(self, broker, mode, words, seconds=None, counted=False):
        """A run's figures. `counted` runs end with their messages, the others after a time."""
        words = mode.split() + ["--uri", broker.uri, "--pid", str(broker.pid), "--json", "--quiet"] + [str(w) for w in words]
        if not counted:
            words += ["--warmup", str(self.warmup), "--time", str(seconds or self.seconds)]
        done = subprocess.run([self.binary, "perf"] + words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PERF_SECONDS_MAX, check=False)
        if done.returncode != 0:
            raise RuntimeError("haremq perf %s: exit code %d, %s" % (" ".join(words), done.returncode, done.stderr.strip()))
        return json.loads(done.stdout)

    def throughput(self, broker, words, seconds=None):
        return traffic_figures(self.run(broker, "throughput", words, seconds))

    def counted(self, broker, words):
        return traffic_figures(self.run(broker, "throughput", words, counted=True))


def traffic_figures(figures):
    """What of a run of traffic the table shows."""
    both = [figures.get("avg_pub_rate") or 0, figures.get("avg_consume_rate") or 0]
    return {
        "cpu_us": figures["broker_cpu_us_per_message"],
        "client_cpu_us": figures["client_cpu_us_per_message"],
        "rate": max(both),
        "published_per_s": both[0],
        "consumed_per_s": both[1],
        "confirmed_per_s": figures.get("avg_confirm_rate"),
        "cores": figures["broker_cpu_cores"],
        "rss_max_mib": figures["broker_rss_max_bytes"] / 2 ** 20,
    }


# ---------------------------------------------------------------- raw sockets

def publish_chunks(address, chunks, messages_each, messages, received, go):
    """Sends chunks in turn, at most a window of messages ahead of what was received."""
    client = Client(address)
    go.wait()
    sent = number = 0
    while sent < messages:
        while sent - received.value > WINDOW_MESSAGES - messages_each:
            time.sleep(PROBE_SECONDS / 10)
        client.socket.sendall(chunks[number % len(chunks)])
        number += 1
        sent += messages_each
    client.close()


def basic_publish(exchange, key, body):
    """A message without properties."""
    return (frames.method(1, (60, 40), b"\x00\x00" + frames.shortstr(exchange) + frames.shortstr(key) + b"\x00")
            + frames.frame(frames.HEADER, 1, struct.pack(">HHQH", 60, 0, len(body), 0))
            + frames.frame(frames.BODY, 1, body))


def routed(broker, exchange, keys, messages, body_bytes=16):
    """Messages with changing routing keys, all of one length, to the queue that gets them all: CPU each, and rate.

    The queue, its bindings and the exchange are there already."""
    publishes = [basic_publish(exchange, key, bytes(body_bytes)) for key in keys]
    each = max(CHUNK_BYTES // len(publishes[0]), 1)
    chunks = [b"".join(publishes[(first + n) % len(publishes)] for n in range(each))
              for first in range(0, max(len(publishes), each), each)]
    received, go = multiprocessing.Value("q", 0, lock=False), multiprocessing.Event()
    sender = multiprocessing.Process(target=publish_chunks,
                                     args=(broker.address, chunks, each, messages, received, go))
    client = Client(broker.address)
    client.call(frames.basic_consume(DESTINATION, "t"), frames.BASIC_CONSUME_OK)
    sender.start()
    client.socket.settimeout(STALL_SECONDS_MAX)
    delivery = (4 + len(frames.shortstr("t")) + 8 + 1 + len(frames.shortstr(exchange)) + len(frames.shortstr(keys[0]))
                + 14 + body_bytes + 3 * frames.FRAME_OVERHEAD_BYTES)
    buffer, octets = bytearray(READ_BYTES), 0
    warm_up, began = int(messages * WARM_UP_SHARE), None
    go.set()
    # The sender sends whole chunks.
    messages = -(-messages // each) * each
    while received.value < messages:
        count = client.socket.recv_into(buffer)
        if count == 0:
            raise RuntimeError("the broker closed the connection")
        octets += count
        received.value = octets // delivery
        if began is None and received.value >= warm_up:
            began, cpu, first = time.monotonic(), broker.cpu_seconds(), received.value
    figures = {"cpu_us": (broker.cpu_seconds() - cpu) * 1e6 / (messages - first),
               "rate": (messages - first) / (time.monotonic() - began)}
    sender.join()
    client.socket.close()
    return figures


def declares(broker, count):
    """Durable declare and bind, one after the other, by one client."""
    client = Client(broker.address)
    cpu, began = broker.cpu_seconds(), time.monotonic()
    for number in range(count):
        queue = "bench.declare.%d" % number
        client.declare(queue)
        client.call(queue_bind(queue, "amq.direct", queue), (50, 21))
    took, cpu = time.monotonic() - began, broker.cpu_seconds() - cpu
    client.close()
    return {"rate": count / took, "cpu_us": cpu * 1e6 / count}


def queue_bind(queue, exchange, key, channel=1):
    return frames.method(channel, (50, 20), b"\x00\x00" + frames.shortstr(queue) + frames.shortstr(exchange)
                         + frames.shortstr(key) + b"\x00" + frames.EMPTY_TABLE)


def pipelined(client, calls, answer, window=500):
    """Sends many methods with one answer each, so many at a time."""
    calls = list(calls)
    for first in range(0, len(calls), window):
        part = calls[first:first + window]
        client.socket.sendall(b"".join(part))
        for _ in part:
            client.expect(answer)


def connections(broker, count):
    """Connections with a channel, each of which has published and got a message; closed by `crowd.close_all`."""
    owner = Client(broker.address)
    owner.declare(crowd.QUEUE)
    return owner, crowd.open_all(broker.address, count)


def first_delivery_seconds(broker, queue, began):
    """From a moment to the first message that a client gets."""
    while True:
        try:
            client = Client(broker.address)
            break
        except (OSError, socket.timeout):
            time.sleep(PROBE_SECONDS)
    client.call(frames.basic_get(queue, no_ack=False), frames.BASIC_GET_OK)
    took = time.monotonic() - began
    client.socket.close()
    return took
