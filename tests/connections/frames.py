"""AMQP 0-9-1 frames by hand: what a client writes, and a splitter for what it reads.

In: names, numbers and bodies, or bytes from a socket. Out: bytes, or (frame type, channel, payload).
It has no socket, and knows only what the tests of this folder send; nothing is taken from the broker's own code, so
that both cannot be wrong in the same way.
"""

import struct

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
FRAME_OVERHEAD_BYTES = 8

CONNECTION_START = (10, 10)
CONNECTION_TUNE = (10, 30)
CONNECTION_OPEN_OK = (10, 41)
CONNECTION_CLOSE = (10, 50)
CONNECTION_CLOSE_OK = (10, 51)
CHANNEL_OPEN_OK = (20, 11)
CHANNEL_CLOSE = (20, 40)
QUEUE_DECLARE_OK = (50, 11)
QUEUE_DELETE_OK = (50, 41)
BASIC_CONSUME_OK = (60, 21)
BASIC_GET_OK = (60, 71)

QUEUE_DURABLE = 2
QUEUE_PASSIVE = 1
CONSUME_NO_ACK = 2
EMPTY_TABLE = b"\x00\x00\x00\x00"


def shortstr(text):
    octets = text.encode()
    return bytes([len(octets)]) + octets


def longstr(octets):
    return struct.pack(">I", len(octets)) + octets


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([FRAME_END])


def method(channel, class_and_method, arguments=b""):
    return frame(METHOD, channel, struct.pack(">HH", *class_and_method) + arguments)


def start_ok(user="guest", password="guest"):
    response = b"\x00" + user.encode() + b"\x00" + password.encode()
    return method(0, (10, 11), EMPTY_TABLE + shortstr("PLAIN") + longstr(response) + shortstr("en_US"))


def tune_ok(channels_max=2047, frame_bytes_max=131072):
    """Without heartbeats, so that an idle connection is idle. The limits are RabbitMQ's own."""
    return method(0, (10, 31), struct.pack(">HIH", channels_max, frame_bytes_max, 0))


def connection_open(vhost="/"):
    return method(0, (10, 40), shortstr(vhost) + b"\x00\x00")


def connection_close():
    return method(0, CONNECTION_CLOSE, struct.pack(">H", 200) + shortstr("done") + struct.pack(">HH", 0, 0))


def channel_open(channel=1):
    return method(channel, (20, 10), b"\x00")


def queue_declare(name, flags=QUEUE_DURABLE, channel=1):
    return method(channel, (50, 10), b"\x00\x00" + shortstr(name) + bytes([flags]) + EMPTY_TABLE)


def queue_delete(name, channel=1):
    return method(channel, (50, 40), b"\x00\x00" + shortstr(name) + b"\x00")


def basic_consume(queue, tag, flags=CONSUME_NO_ACK, channel=1):
    return method(channel, (60, 20), b"\x00\x00" + shortstr(queue) + shortstr(tag) + bytes([flags]) + EMPTY_TABLE)


def basic_get(queue, no_ack=True, channel=1):
    return method(channel, (60, 70), b"\x00\x00" + shortstr(queue) + bytes([1 if no_ack else 0]))


def basic_publish(queue, body, channel=1):
    """A message through the default exchange, without properties. The body must fit into one frame."""
    return (method(channel, (60, 40), b"\x00\x00" + shortstr("") + shortstr(queue) + b"\x00")
            + frame(HEADER, channel, struct.pack(">HHQH", 60, 0, len(body), 0))
            + frame(BODY, channel, body))


def delivery_bytes(queue, tag, body_bytes):
    """The size on the wire of one delivery of what `basic_publish` publishes."""
    deliver = 4 + len(shortstr(tag)) + 8 + 1 + len(shortstr("")) + len(shortstr(queue))
    return deliver + 14 + body_bytes + 3 * FRAME_OVERHEAD_BYTES


class Malformed(Exception):
    """The broker wrote something that is no frame."""


def split(buffer):
    """Takes the whole frames from the front of a bytearray."""
    while len(buffer) >= 7:
        kind, channel, size = struct.unpack_from(">BHI", buffer)
        if len(buffer) < size + FRAME_OVERHEAD_BYTES:
            return
        if buffer[size + 7] != FRAME_END:
            raise Malformed("no end octet after %r" % bytes(buffer[:32]))
        payload = bytes(buffer[7:size + 7])
        del buffer[:size + FRAME_OVERHEAD_BYTES]
        yield kind, channel, payload


def name_of(kind, payload):
    """(class, method) of a method frame, the frame's type otherwise."""
    return struct.unpack_from(">HH", payload) if kind == METHOD else kind


def reason_of(payload):
    """Code and text of connection.close and channel.close."""
    code, length = struct.unpack_from(">HB", payload, 4)
    return code, payload[7:7 + length].decode("utf-8", "replace")
