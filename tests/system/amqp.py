"""A small AMQP 0-9-1 client on raw frames, for the system tests.

In: methods as Python values. Out: frames, and what the broker answers, unchanged: nothing is retried,
reconnected or hidden. It knows only the methods that the tests use. Time limits exist so that a broker that
does not answer fails a test instead of hanging it; no test measures with them.
"""

import socket
import struct
import time
from collections import deque

DEADLOCK_S = 30.0
FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

# Class, method and fields of each method. Types: o octet, h short, l long, L longlong, s short string,
# S long string, b bit, T table.
METHODS = {
    "connection.start": (10, 10, "major:o minor:o properties:T mechanisms:S locales:S"),
    "connection.start-ok": (10, 11, "properties:T mechanism:s response:S locale:s"),
    "connection.tune": (10, 30, "channel_max:h frame_max:l heartbeat:h"),
    "connection.tune-ok": (10, 31, "channel_max:h frame_max:l heartbeat:h"),
    "connection.open": (10, 40, "vhost:s reserved1:s reserved2:b"),
    "connection.open-ok": (10, 41, "reserved1:s"),
    "connection.close": (10, 50, "code:h text:s class_id:h method_id:h"),
    "connection.close-ok": (10, 51, ""),
    "connection.blocked": (10, 60, "reason:s"),
    "connection.unblocked": (10, 61, ""),
    "connection.update-secret": (10, 70, "secret:S reason:s"),
    "connection.update-secret-ok": (10, 71, ""),
    "channel.open": (20, 10, "reserved1:s"),
    "channel.open-ok": (20, 11, "reserved1:S"),
    "channel.close": (20, 40, "code:h text:s class_id:h method_id:h"),
    "channel.close-ok": (20, 41, ""),
    "exchange.declare": (
        40, 10, "ticket:h exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:T"),
    "exchange.declare-ok": (40, 11, ""),
    "exchange.delete": (40, 20, "ticket:h exchange:s if_unused:b nowait:b"),
    "exchange.delete-ok": (40, 21, ""),
    "exchange.bind": (40, 30, "ticket:h destination:s source:s routing_key:s nowait:b arguments:T"),
    "exchange.bind-ok": (40, 31, ""),
    "exchange.unbind": (40, 40, "ticket:h destination:s source:s routing_key:s nowait:b arguments:T"),
    "exchange.unbind-ok": (40, 51, ""),
    "queue.declare": (
        50, 10, "ticket:h queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:T"),
    "queue.declare-ok": (50, 11, "queue:s messages:l consumers:l"),
    "queue.bind": (50, 20, "ticket:h queue:s exchange:s routing_key:s nowait:b arguments:T"),
    "queue.bind-ok": (50, 21, ""),
    "queue.purge": (50, 30, "ticket:h queue:s nowait:b"),
    "queue.purge-ok": (50, 31, "messages:l"),
    "queue.delete": (50, 40, "ticket:h queue:s if_unused:b if_empty:b nowait:b"),
    "queue.delete-ok": (50, 41, "messages:l"),
    "queue.unbind": (50, 50, "ticket:h queue:s exchange:s routing_key:s arguments:T"),
    "queue.unbind-ok": (50, 51, ""),
    "basic.qos": (60, 10, "size:l count:h global_:b"),
    "basic.qos-ok": (60, 11, ""),
    "basic.consume": (
        60, 20, "ticket:h queue:s tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:T"),
    "basic.consume-ok": (60, 21, "tag:s"),
    "basic.cancel": (60, 30, "tag:s nowait:b"),
    "basic.cancel-ok": (60, 31, "tag:s"),
    "basic.publish": (60, 40, "ticket:h exchange:s routing_key:s mandatory:b immediate:b"),
    "basic.return": (60, 50, "code:h text:s exchange:s routing_key:s"),
    "basic.deliver": (60, 60, "tag:s delivery_tag:L redelivered:b exchange:s routing_key:s"),
    "basic.get": (60, 70, "ticket:h queue:s no_ack:b"),
    "basic.get-ok": (60, 71, "delivery_tag:L redelivered:b exchange:s routing_key:s messages:l"),
    "basic.get-empty": (60, 72, "reserved1:s"),
    "basic.ack": (60, 80, "delivery_tag:L multiple:b"),
    "basic.reject": (60, 90, "delivery_tag:L requeue:b"),
    "basic.nack": (60, 120, "delivery_tag:L multiple:b requeue:b"),
    "confirm.select": (85, 10, "nowait:b"),
    "confirm.select-ok": (85, 11, ""),
    "tx.select": (90, 10, ""),
    "tx.select-ok": (90, 11, ""),
    "tx.commit": (90, 20, ""),
    "tx.commit-ok": (90, 21, ""),
    "tx.rollback": (90, 30, ""),
    "tx.rollback-ok": (90, 31, ""),
}
BY_ID = {(row[0], row[1]): name for name, row in METHODS.items()}
WITH_CONTENT = ("basic.return", "basic.deliver", "basic.get-ok")
NUMBERS = {"o": ">B", "h": ">H", "l": ">I", "L": ">Q"}
EMPTY = {"s": "", "S": b"", "b": False, "T": {}}

# The properties of class basic, from the highest flag down.
PROPERTIES = ("content_type:s content_encoding:s headers:T delivery_mode:o priority:o correlation_id:s reply_to:s "
              "expiration:s message_id:s timestamp:L type:s user_id:s app_id:s cluster_id:s")


class Gone(Exception):
    """The socket closed without a close method."""


class Closed(Exception):
    """The broker closed the connection or the channel."""

    def __init__(self, scope, method):
        super().__init__("%s closed: %d %s" % (scope, method.code, method.text))
        self.scope, self.code, self.text = scope, method.code, method.text
        self.at = (method.class_id, method.method_id)


class Method:
    """A method that came in, its fields as attributes, with the body of its content."""

    def __init__(self, name, fields):
        self.name, self.body, self.properties = name, None, None
        self.__dict__.update(fields)

    def __repr__(self):
        return "Method(%s)" % ", ".join("%s=%r" % item for item in sorted(self.__dict__.items()))


def encode_short(text):
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def encode_long(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def encode_table(table):
    return encode_long(b"".join(encode_short(key) + encode_value(value) for key, value in table.items()))


def encode_value(value):
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int):
        return b"l" + struct.pack(">q", value)
    if isinstance(value, (str, bytes)):
        return b"S" + encode_long(value)
    if isinstance(value, dict):
        return b"F" + encode_table(value)
    if isinstance(value, list):
        return b"A" + encode_long(b"".join(encode_value(item) for item in value))
    raise TypeError(type(value))


class Reader:
    """Takes values off bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        part = self.data[self.at:self.at + count]
        if len(part) < count:
            raise ValueError("the broker sent a method that is too short: %r" % self.data)
        self.at += count
        return part

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def short(self):
        return self.take(self.number(">B")).decode()

    def long(self):
        return self.take(self.number(">I"))

    def table(self):
        inner, table = Reader(self.long()), {}
        while inner.at < len(inner.data):
            key = inner.short()
            table[key] = inner.value()
        return table

    def value(self):
        kind = self.take(1).decode()
        numbers = {"b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
                   "f": ">f", "d": ">d", "T": ">Q"}
        if kind == "t":
            return self.take(1) != b"\x00"
        if kind in numbers:
            return self.number(numbers[kind])
        if kind == "S":
            return self.long().decode()
        if kind == "F":
            return self.table()
        if kind == "A":
            inner, items = Reader(self.long()), []
            while inner.at < len(inner.data):
                items.append(inner.value())
            return items
        if kind == "V":
            return None
        raise ValueError("the broker sent a table value of type %r" % kind)


def encode_method(name, **values):
    class_id, method_id, fields = METHODS[name]
    out, bits, bit_count = [struct.pack(">HH", class_id, method_id)], 0, 0
    for field in fields.split():
        key, kind = field.split(":")
        value = values.pop(key, EMPTY.get(kind, 0))
        if kind == "b":
            bits |= bool(value) << bit_count
            bit_count += 1
            continue
        if bit_count:
            out.append(bytes([bits]))
            bits, bit_count = 0, 0
        if kind in NUMBERS:
            out.append(struct.pack(NUMBERS[kind], value))
        else:
            out.append({"s": encode_short, "S": encode_long, "T": encode_table}[kind](value))
    if bit_count:
        out.append(bytes([bits]))
    if values:
        raise TypeError("%s has no %s" % (name, sorted(values)))
    return b"".join(out)


def decode_method(payload):
    reader = Reader(payload)
    name = BY_ID[(reader.number(">H"), reader.number(">H"))]
    fields, bit_count, octet = {}, 0, 0
    for field in METHODS[name][2].split():
        key, kind = field.split(":")
        if kind == "b":
            if bit_count == 0:
                octet = reader.number(">B")
            fields[key] = bool(octet >> bit_count & 1)
            bit_count += 1
            continue
        bit_count = 0
        if kind in NUMBERS:
            fields[key] = reader.number(NUMBERS[kind])
        else:
            fields[key] = {"s": reader.short, "S": reader.long, "T": reader.table}[kind]()
    return Method(name, fields)


def encode_properties(**values):
    """Property flags and values, as they stand in a content header."""
    flags, out = 0, []
    for place, field in enumerate(PROPERTIES.split()):
        key, kind = field.split(":")
        if key in values:
            flags |= 1 << (15 - place)
            value = values.pop(key)
            out.append(struct.pack(NUMBERS[kind], value) if kind in NUMBERS
                       else {"s": encode_short, "T": encode_table}[kind](value))
    if values:
        raise TypeError("no such properties: %s" % sorted(values))
    return struct.pack(">H", flags) + b"".join(out)


def decode_properties(data):
    """The same, as a dictionary."""
    reader, values = Reader(data), {}
    flags = reader.number(">H")
    for place, field in enumerate(PROPERTIES.split()):
        key, kind = field.split(":")
        if flags >> (15 - place) & 1:
            values[key] = (reader.number(NUMBERS[kind]) if kind in NUMBERS
                           else {"s": reader.short, "T": reader.table}[kind]())
    return values


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([FRAME_END])


def plain(user, password):
    return b"\x00" + user.encode() + b"\x00" + password.encode()


def amqplain(user, password):
    return encode_table({"LOGIN": user, "PASSWORD": password})[4:]


class Wire:
    """A socket and the frames on it. No handshake: the tests of broken ones use it as it is."""

    def __init__(self, port, host="127.0.0.1", receive_buffer=None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLOCK_S)
        self.socket.connect((host, port))
        self.input = b""
        self.heartbeats = 0
        self.sent_heartbeats = 0

    def send(self, data):
        self.socket.sendall(data)

    def method(self, channel, name, **values):
        self.send(frame(FRAME_METHOD, channel, encode_method(name, **values)))

    def heartbeat(self):
        self.send(frame(FRAME_HEARTBEAT, 0, b""))

    def fill(self, count, limit_s):
        """Reads until `count` bytes are there."""
        deadline = time.monotonic() + limit_s
        while len(self.input) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("nothing came within %.1f s" % limit_s)
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 16)
            except socket.timeout:
                raise TimeoutError("nothing came within %.1f s" % limit_s) from None
            except ConnectionError as error:
                raise Gone(str(error)) from None
            finally:
                self.socket.settimeout(DEADLOCK_S)
            if not data:
                raise Gone("the broker closed the socket")
            self.input += data

    def read_frame(self, limit_s=DEADLOCK_S):
        self.fill(7, limit_s)
        kind, channel, size = struct.unpack(">BHI", self.input[:7])
        self.fill(size + 8, limit_s)
        payload, end = self.input[7:7 + size], self.input[7 + size]
        if end != FRAME_END:
            raise ValueError("a frame that ends with %#x" % end)
        self.input = self.input[size + 8:]
        return kind, channel, payload

    def has_frame(self):
        """Whether a whole frame was read already, which no wait for the socket would tell."""
        return len(self.input) >= 8 and len(self.input) >= struct.unpack(">I", self.input[3:7])[0] + 8

    def expect(self, name):
        kind, _, payload = self.read_frame()
        assert kind == FRAME_METHOD, "a frame of type %d instead of %s" % (kind, name)
        method = decode_method(payload)
        assert method.name == name, "%r instead of %s" % (method, name)
        return method

    def rest(self, limit_s=DEADLOCK_S):
        """Every byte until the broker closes the socket."""
        try:
            while True:
                self.fill(len(self.input) + 1, limit_s)
        except Gone:
            rest, self.input = self.input, b""
            return rest

    def drop(self):
        """Closes the socket without a word."""
        self.socket.close()


class Connection(Wire):
    """A connection after its handshake, unless the broker refused it."""

    def __init__(self, port, user="guest", password="guest", vhost="/", host="127.0.0.1", capabilities=None,
                 mechanism="PLAIN", response=None, heartbeat=0, frame_max=131072, channel_max=2047,
                 properties=None):
        super().__init__(port, host)
        self.events = {0: deque()}
        self.partial = {}
        self.channel_last = 0
        told = dict(properties or {})
        told["capabilities"] = {name: True for name in capabilities or []}
        self.send(PROTOCOL_HEADER)
        self.start = self.expect("connection.start")
        self.method(0, "connection.start-ok", properties=told, mechanism=mechanism, locale="en_US",
                    response=plain(user, password) if response is None else response)
        self.tune = self.wait(0, "connection.tune")
        self.method(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)
        self.method(0, "connection.open", vhost=vhost)
        self.wait(0, "connection.open-ok")

    def pump(self, limit_s=DEADLOCK_S):
        """Reads one frame into the events of its channel. Heartbeats are counted and answered by nothing."""
        kind, channel, payload = self.read_frame(limit_s)
        if kind == FRAME_HEARTBEAT:
            self.heartbeats += 1
        elif kind == FRAME_METHOD:
            method = decode_method(payload)
            if method.name in WITH_CONTENT:
                self.partial[channel] = method
            elif method.name == "connection.close":
                self.acknowledge_close()
                raise Closed("connection", method)
            else:
                self.events.setdefault(channel, deque()).append(method)
        elif kind == FRAME_HEADER:
            method = self.partial[channel]
            method.body_size = struct.unpack(">Q", payload[4:12])[0]
            method.properties, method.body = payload[12:], b""
        else:
            self.partial[channel].body += payload
        method = self.partial.get(channel)
        if method is not None and method.body is not None and len(method.body) == method.body_size:
            self.events.setdefault(channel, deque()).append(self.partial.pop(channel))

    def acknowledge_close(self):
        try:
            self.method(0, "connection.close-ok")
        except OSError:
            pass

    def wait(self, channel, *names, limit_s=DEADLOCK_S):
        """The next event of a channel, which must have one of these names."""
        events = self.events.setdefault(channel, deque())
        deadline = time.monotonic() + limit_s
        while not events:
            self.pump(max(deadline - time.monotonic(), 0.001))
        event = events.popleft()
        if event.name == "channel.close" and event.name not in names:
            self.method(channel, "channel.close-ok")
            raise Closed("channel", event)
        assert event.name in names, "%r instead of %s" % (event, names)
        return event

    def quiet(self, seconds):
        """Reads for a while; what comes stays in the events."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            try:
                self.pump(left)
            except TimeoutError:
                return

    def channel(self):
        self.channel_last += 1
        channel = Channel(self, self.channel_last)
        channel.call("channel.open")
        return channel

    def await_close(self, limit_s=DEADLOCK_S):
        """Reads until the broker closes the connection, and gives its close."""
        deadline = time.monotonic() + limit_s
        try:
            while True:
                self.pump(max(deadline - time.monotonic(), 0.001))
        except Closed as closed:
            return closed

    def close(self):
        self.method(0, "connection.close", code=200, text="bye")
        self.wait(0, "connection.close-ok")
        rest = self.rest()
        assert rest == b"", "%r after close-ok" % rest


class Channel:
    """A channel."""

    def __init__(self, connection, number):
        self.connection, self.number = connection, number

    def send(self, name, **values):
        self.connection.method(self.number, name, **values)

    def wait(self, *names, limit_s=DEADLOCK_S):
        return self.connection.wait(self.number, *names, limit_s=limit_s)

    def call(self, name, **values):
        self.send(name, **values)
        if name == "basic.get":
            return self.wait("basic.get-ok", "basic.get-empty")
        return self.wait(name + "-ok")

    def encode_publish(self, exchange, routing_key, body, mandatory=False, properties=encode_properties()):
        """All frames of a publish; `properties` as `encode_properties` gives them."""
        out = frame(FRAME_METHOD, self.number, encode_method(
            "basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory))
        out += frame(FRAME_HEADER, self.number, struct.pack(">HHQ", 60, 0, len(body)) + properties)
        for at in range(0, len(body), 100000):
            out += frame(FRAME_BODY, self.number, body[at:at + 100000])
        return out

    def publish(self, exchange, routing_key, body=b"x", mandatory=False, persistent=False, properties=None):
        """`persistent` says what the properties are, unless they are given."""
        if properties is None:
            properties = encode_properties(delivery_mode=2) if persistent else encode_properties()
        self.connection.send(self.encode_publish(exchange, routing_key, body, mandatory, properties))

    def declare(self, queue="", **values):
        values.setdefault("durable", not values.get("exclusive"))
        return self.call("queue.declare", queue=queue, **values)

    def get(self, queue, no_ack=True):
        return self.call("basic.get", queue=queue, no_ack=no_ack)

    def is_routed(self, exchange, routing_key):
        """Whether a message finds a queue. The channel must be in confirm mode."""
        self.publish(exchange, routing_key, b"probe", mandatory=True)
        event = self.wait("basic.return", "basic.ack")
        if event.name == "basic.ack":
            return True
        self.wait("basic.ack")
        return False
