"""The first bytes and the quiet ones: foreign protocols on the port, slow handshakes, heartbeats."""

import time

from amqp import PROTOCOL_HEADER, Connection, Wire, plain
from harness import contains, equal, eventually, test


def answer(broker, data):
    """What the broker sends to these first bytes before it closes the socket."""
    wire = Wire(broker.port)
    wire.send(data)
    return wire.rest()


@test("HTTP, TLS and other bytes on the AMQP port are answered with the header, closed, and logged in words")
def foreign_protocols(context):
    broker = context.broker()
    tls = bytes.fromhex("16030100c8010000c40303") + bytes(200)
    for data, words in [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP GET request detected on AMQP port"),
            (b"POST /api HTTP/1.1\r\n\r\n", "HTTP POST request detected on AMQP port"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 request detected on AMQP port"),
            (tls, "TLS client detected on non-TLS AMQP port"),
            (b"AMQP\x00\x01\x00\x00", "AMQP 1.0 client (protocol id 0) detected"),
            (b"AMQP\x03\x01\x00\x00", "AMQP 1.0 client (protocol id 3) detected"),
            (b"AMQP\x00\x00\x09\x02", "client asked for AMQP version 0.0.9.2"),
            (b"AMQP\x01\x01\x08\x00", "client asked for AMQP version 1.1.8.0"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "client did not start with AMQP protocol header: <<"),
            (b"\x00" * 8, "client did not start with AMQP protocol header: <<"),
            (b"AMQX", "client did not start with AMQP protocol header: <<")]:
        before = broker.log.count(words)
        equal(answer(broker, data), PROTOCOL_HEADER, "answer to %r" % data[:20])
        eventually(lambda: broker.log.count(words) == before + 1, "log says: " + words, 10)
    for line in broker.log.splitlines():
        assert "haremq::connection" not in line or "WARN" in line, line


@test("the header of 0-9 is served, and a header may come byte by byte")
def odd_headers(context):
    broker = context.broker()
    for header in (PROTOCOL_HEADER, b"AMQP\x01\x01\x00\x09"):
        wire = Wire(broker.port)
        for byte in header:
            wire.send(bytes([byte]))
            time.sleep(0.002)
        equal(wire.expect("connection.start").minor, 9, "version")


@test("a handshake that stalls anywhere is closed without a frame")
def handshake_timeout(context):
    broker = context.broker(environment={"HAREMQ_TIMEOUTS_HANDSHAKE_MS": "3000"})
    began = time.monotonic()
    silent, started, tuned, ready, slow = (Wire(broker.port) for _ in range(5))
    for wire in (started, tuned, ready):
        wire.send(PROTOCOL_HEADER)
        wire.expect("connection.start")
    for wire in (tuned, ready):
        wire.method(0, "connection.start-ok", mechanism="PLAIN", response=plain("guest", "guest"), locale="en_US")
        wire.expect("connection.tune")
    ready.method(0, "connection.tune-ok", channel_max=1, frame_max=131072, heartbeat=0)
    slow.send(b"AM")
    for wire in (silent, started, tuned, ready, slow):
        equal(wire.rest(), b"", "bytes before the socket closed")
    assert time.monotonic() - began >= 2.9, "closed before the time was over"
    eventually(lambda: broker.log.count("handshake timed out") >= 4, "log says: handshake timed out", 10)
    broker.connect().close()


@test("an open connection outlives the handshake's time limit")
def handshake_timer_ends(context):
    broker = context.broker(environment={"HAREMQ_TIMEOUTS_HANDSHAKE_MS": "2000"})
    connection = broker.connect()
    time.sleep(2.5)
    connection.channel().declare("q")


@test("the broker sends heartbeats at half the interval, and none when they are off")
def heartbeats_sent(context):
    broker = context.broker()
    beating, quiet = broker.connect(heartbeat=1), broker.connect(heartbeat=0)
    deadline = time.monotonic() + 30
    while beating.heartbeats < 4:
        assert time.monotonic() < deadline, "%d heartbeats" % beating.heartbeats
        beating.heartbeat()
        beating.quiet(0.3)
    quiet.quiet(0.1)
    equal(quiet.heartbeats, 0, "heartbeats that nobody asked for")
    quiet.channel()


@test("a silent client is dropped after two to three intervals without a close")
def heartbeats_missed(context):
    broker = context.broker()
    watcher = broker.connect().channel()
    connection = broker.connect(heartbeat=1)
    began = time.monotonic()
    channel = connection.channel()
    channel.declare("mine", exclusive=True)
    received = connection.rest(60)
    lasted = time.monotonic() - began
    assert 1.5 <= lasted <= 30, "dropped after %.1f s" % lasted
    equal(received, b"\x08\x00\x00\x00\x00\x00\x00\xce" * (len(received) // 8), "bytes, heartbeats alone")
    contains(broker.log, "missed heartbeats from client, timeout: 1s", "log")
    watcher.declare("mine", exclusive=True)


@test("heartbeats and any other bytes of a client keep its connection")
def heartbeats_received(context):
    broker = context.broker()
    beating, busy, trickling = (broker.connect(heartbeat=1) for _ in range(3))
    channel = busy.channel()
    channel.declare("q")
    deadline = time.monotonic() + 4.5
    heartbeat = b"\x08\x00\x00\x00\x00\x00\x00\xce"
    at = 0
    while time.monotonic() < deadline:
        beating.heartbeat()
        channel.publish("", "q", b"busy")
        trickling.send(heartbeat[at % 8:at % 8 + 1])
        at += 1
        time.sleep(0.1)
    while at % 8:
        trickling.send(heartbeat[at % 8:at % 8 + 1])
        at += 1
    for connection in (beating, busy, trickling):
        Connection.channel(connection).declare("q", passive=True)
