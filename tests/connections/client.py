"""A blocking AMQP client for the tests of this folder: handshake, calls, and a measured stream of messages.

In: the broker's address. Out: replies, or an exception with what the broker said.
It knows nothing of the broker's process: memory and CPU are read in `process.py`.
"""

import socket
import struct
import time

import frames

IO_SECONDS_MAX = 30
READ_BYTES = 1 << 18


class Refused(Exception):
    """The broker closed the channel or the connection, or answered something else than was due."""


class Client:
    """A connection with channel 1 open. `shape` may set options of the socket before it connects."""

    def __init__(self, address, shape=None):
        self.buffer = bytearray()
        self.socket = connect(address, shape)
        self.socket.sendall(frames.PROTOCOL_HEADER)
        self.expect(frames.CONNECTION_START)
        self.call(frames.start_ok(), frames.CONNECTION_TUNE)
        self.call(frames.tune_ok() + frames.connection_open(), frames.CONNECTION_OPEN_OK)
        self.call(frames.channel_open(), frames.CHANNEL_OPEN_OK)

    def call(self, octets, expected):
        self.socket.sendall(octets)
        return self.expect(expected)

    def expect(self, expected):
        """Reads the next frame, which must be the expected method, and returns its arguments."""
        while True:
            for kind, _, payload in frames.split(self.buffer):
                if kind == frames.HEARTBEAT:
                    continue
                name = frames.name_of(kind, payload)
                if name in (frames.CONNECTION_CLOSE, frames.CHANNEL_CLOSE):
                    raise Refused("closed with %d %s" % frames.reason_of(payload))
                if name != expected:
                    raise Refused("%r instead of %r" % (name, expected))
                return payload[4:]
            octets = self.socket.recv(READ_BYTES)
            if not octets:
                raise Refused("the socket was closed while %r was due" % (expected,))
            self.buffer += octets

    def declare(self, queue, flags=frames.QUEUE_DURABLE):
        """Declares the queue and returns the number of its messages."""
        answer = self.call(frames.queue_declare(queue, flags), frames.QUEUE_DECLARE_OK)
        return struct.unpack_from(">I", answer, 1 + answer[0])[0]

    def delete(self, queue):
        self.call(frames.queue_delete(queue), frames.QUEUE_DELETE_OK)

    def close(self):
        self.call(frames.connection_close(), frames.CONNECTION_CLOSE_OK)
        self.socket.close()


class Stream:
    """A client that publishes to a queue of its own and consumes from it, in windows, as fast as it can."""

    QUEUE = "test.connections.stream"
    TAG = "stream"
    BODY_BYTES = 128
    WINDOW_MESSAGES = 1000

    def __init__(self, address):
        self.client = Client(address)
        self.client.declare(self.QUEUE)
        self.client.call(frames.basic_consume(self.QUEUE, self.TAG), frames.BASIC_CONSUME_OK)
        self.window = frames.basic_publish(self.QUEUE, bytes(self.BODY_BYTES)) * self.WINDOW_MESSAGES
        self.window_bytes = self.WINDOW_MESSAGES * frames.delivery_bytes(self.QUEUE, self.TAG, self.BODY_BYTES)

    def run(self, messages):
        """Sends and receives so many messages, counting bytes: each delivery has the same size."""
        for _ in range(messages // self.WINDOW_MESSAGES):
            self.client.socket.sendall(self.window)
            missing = self.window_bytes
            while missing > 0:
                octets = self.client.socket.recv(min(READ_BYTES, missing))
                if not octets:
                    raise Refused("the socket was closed while deliveries were due")
                missing -= len(octets)

    def close(self):
        """Deletes the queue; the broker's answers are checked, so a lost or surplus octet is noticed."""
        self.client.socket.sendall(frames.method(1, (60, 30), frames.shortstr(self.TAG) + b"\x00"))
        self.client.expect((60, 31))
        self.client.delete(self.QUEUE)
        self.client.close()


def connect(address, shape=None):
    peer = socket.socket()
    peer.settimeout(IO_SECONDS_MAX)
    if shape is not None:
        shape(peer)
    peer.connect(address)
    return peer


def fill(address, queue, messages, body_bytes):
    """Makes a queue with so many messages; returns when the broker counts them all."""
    client = Client(address)
    client.delete(queue)
    client.declare(queue)
    message = frames.basic_publish(queue, bytes(body_bytes))
    for _ in range(messages):
        client.socket.sendall(message)
    deadline = time.monotonic() + IO_SECONDS_MAX
    while client.declare(queue, frames.QUEUE_PASSIVE) != messages:
        if time.monotonic() > deadline:
            raise Refused("%s does not hold %d messages" % (queue, messages))
        time.sleep(0.1)
    client.close()
