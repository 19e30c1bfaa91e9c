"""Very many messages of one size, in and out, as fast as Python can: frames that were encoded before.

In: a broker, queues, how many. Out: what was confirmed; of deliveries, that none is missing, doubled, out of order or
damaged. All names have the same length, so that every publish and every delivery has, and is read by its place.
"""

import struct

from amqp import (FRAME_BODY, FRAME_HEADER, FRAME_METHOD, decode_method, encode_method, encode_properties, frame)
from letters import BLOCK

BODY_BYTES = 1024
WINDOW = 2000
CHUNK_MESSAGES = 200
READ_BYTES = 1 << 18
# For the next octets of a drain; the first come from the disk.
ANSWER_SECONDS_MAX = 60.0
ACK_EACH = 500

STAMP = struct.Struct(">IQ")
FILLING = BLOCK[:BODY_BYTES - STAMP.size]
PROPERTIES = encode_properties(delivery_mode=2)

# basic.ack: type, channel, size, class, method, tag, multiple, end.
ACK = struct.Struct(">BHIHHQBB")
ACK_SIGNATURE = (1, 1, 13, 60, 80)


def names(count):
    """Names of queues, all of one length."""
    return ["bulk.%05d" % number for number in range(count)]


def content(body):
    return (frame(FRAME_HEADER, 1, struct.pack(">HHQ", 60, 0, len(body)) + PROPERTIES) + frame(FRAME_BODY, 1, body))


def declare(broker, queues):
    connection = broker.connect()
    channel = connection.channel()
    for queue in queues:
        channel.send("queue.declare", queue=queue, durable=True)
    for _ in queues:
        channel.wait("queue.declare-ok")
    connection.close()


def counts(broker, queues):
    """What the broker tells of each queue."""
    connection = broker.connect()
    channel = connection.channel()
    for queue in queues:
        channel.send("queue.declare", queue=queue, passive=True)
    told = [channel.wait("queue.declare-ok").messages for _ in queues]
    connection.close()
    return told


class Confirms:
    """Reads acks from the socket and counts what is confirmed."""

    def __init__(self, connection):
        self.socket = connection.socket
        self.input = connection.input
        self.through, self.single = 0, set()

    @property
    def count(self):
        return self.through + len(self.single)

    def read(self):
        data = self.socket.recv(READ_BYTES)
        assert data, "the broker closed the connection"
        self.input += data
        whole = len(self.input) - len(self.input) % ACK.size
        for at in range(0, whole, ACK.size):
            fields = ACK.unpack_from(self.input, at)
            assert fields[:5] == ACK_SIGNATURE, "not an ack: %r" % self.input[at:at + 200]
            self._note(fields[5], fields[6] & 1)
        self.input = self.input[whole:]

    def _note(self, tag, multiple):
        if multiple:
            self.through = max(self.through, tag)
            self.single = {single for single in self.single if single > self.through}
        else:
            self.single.add(tag)
        while self.through + 1 in self.single:
            self.through += 1
            self.single.remove(self.through)


def fill(broker, queues, messages, first=0):
    """Publishes with confirms, in turn to each queue, and returns when all are confirmed. A message has the number of its
    round in its stamp, from `first`."""
    connection = broker.connect()
    connection.channel().call("confirm.select")
    message = frame(FRAME_METHOD, 1, encode_method("basic.publish", routing_key=queues[0]))
    name_at = message.index(queues[0].encode())
    stamp_at = len(message) + len(content(b"")) - 8 + 7
    message += content(bytes(STAMP.size) + FILLING)
    size, name_bytes = len(message), len(queues[0])
    assert message[stamp_at:stamp_at + STAMP.size] == bytes(STAMP.size)
    chunk = bytearray(message * CHUNK_MESSAGES)
    encoded = [queue.encode() for queue in queues]
    confirms, sent = Confirms(connection), 0
    while sent < messages:
        count = min(CHUNK_MESSAGES, messages - sent)
        for place in range(count):
            turn, which = divmod(sent + place, len(queues))
            at = place * size
            if len(queues) > 1:
                chunk[at + name_at:at + name_at + name_bytes] = encoded[which]
            STAMP.pack_into(chunk, at + stamp_at, which, first + turn)
        connection.socket.sendall(memoryview(chunk)[:count * size])
        sent += count
        while sent - confirms.count > WINDOW - CHUNK_MESSAGES:
            confirms.read()
    while confirms.count < sent:
        confirms.read()
    connection.input = bytes(confirms.input)
    connection.close()


class Drain:
    """Takes everything that `fill` put into some queues."""

    def __init__(self, broker, queues, acks=True, prefetch=0):
        self.connection = broker.connect()
        self.channel = self.connection.channel()
        self.queues, self.acks = queues, acks
        self.next = [0] * len(queues)
        self.taken = self.redelivered = 0
        self.connection.socket.settimeout(ANSWER_SECONDS_MAX)
        if prefetch:
            self.channel.call("basic.qos", count=prefetch)
        # A consumer's tag is the name of its queue.
        name = bytes([len(queues[0])]) + queues[0].encode()
        deliver = frame(FRAME_METHOD, 1, struct.pack(">HH", 60, 60) + name + bytes(9) + bytes(1) + name)
        self.tag_at = 7 + 4 + len(name)
        self.stamp_at = len(deliver) + len(content(b"")) - 8 + 7
        self.size = len(deliver) + len(content(bytes(BODY_BYTES)))
        self.data = bytearray(self.connection.input)

    def start(self):
        """Consumes from all queues on one channel."""
        for queue in self.queues:
            self.channel.send("basic.consume", queue=queue, tag=queue, nowait=True)

    def take(self, messages):
        """Reads so many deliveries, checks each, and acknowledges them if that was wanted."""
        until = self.taken + messages
        while self.taken < until:
            octets = self.connection.socket.recv(READ_BYTES)
            assert octets, "the broker closed the connection"
            self.data += octets
            self._read()
        assert self.taken == until and not self.data, "%d more deliveries than there are messages: %r" % (
            self.taken - until, bytes(self.data[:200]))

    def _read(self):
        whole = len(self.data) - len(self.data) % self.size
        view, last = memoryview(self.data), None
        for at in range(0, whole, self.size):
            if view[at + 7:at + 11] != b"\x00\x3c\x00\x3c":
                raise AssertionError("not a delivery: %r" % decode_method(bytes(view[at + 7:at + 200])))
            which, number = STAMP.unpack_from(view, at + self.stamp_at)
            if number != self.next[which]:
                raise AssertionError("%s: message %d came when %d was due" % (
                    self.queues[which], number, self.next[which]))
            body = at + self.stamp_at + STAMP.size
            if view[body:body + len(FILLING)] != FILLING:
                raise AssertionError("%s: the body of message %d is damaged" % (self.queues[which], number))
            self.next[which] += 1
            self.taken += 1
            self.redelivered += view[at + self.tag_at + 8] & 1
            last = at
            if self.acks and self.taken % ACK_EACH == 0:
                self._ack(view, at)
                last = None
        if self.acks and last is not None:
            self._ack(view, last)
        view.release()
        del self.data[:whole]

    def _ack(self, view, at):
        tag = struct.unpack_from(">Q", view, at + self.tag_at)[0]
        self.channel.send("basic.ack", delivery_tag=tag, multiple=True)

    def close(self):
        """Ends the connection as it should be ended, so that everything before has been done."""
        self.connection.input = bytes(self.data)
        self.connection.close()
