"""Stopping and closing: signals, clients at every stage, input that nobody read, clients that vanish."""

import signal
import struct
import threading
import time

from amqp import FRAME_BODY, FRAME_HEADER, FRAME_METHOD, PROTOCOL_HEADER, Wire, encode_method, frame
from harness import DEADLOCK_S, Closed, Gone, contains, equal, eventually, free_port, refused, test

SHUTDOWN = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"


def stops(context, number):
    broker = context.broker()
    idle = broker.connect()
    consuming = broker.connect()
    channel = consuming.channel()
    channel.declare("q")
    channel.call("basic.consume", queue="q", tag="c")
    channel.publish("", "q", b"one", persistent=True)
    equal(channel.wait("basic.deliver").body, b"one", "body")
    halfway = Wire(broker.port)
    halfway.send(PROTOCOL_HEADER)
    halfway.expect("connection.start")
    silent = Wire(broker.port)
    broker.signal(number)
    for connection in (idle, consuming):
        closed = connection.await_close()
        equal((closed.code, closed.text, closed.at), (320, SHUTDOWN, (0, 0)), "close")
        equal(connection.rest(), b"", "bytes after the close")
    equal(halfway.rest(), b"", "bytes to a client in its handshake")
    equal(silent.rest(), b"", "bytes to a client that said nothing")
    equal(broker.wait(), 0, "exit code")
    contains(broker.log, "stopping connections=", "log")
    equal(broker.log.strip().splitlines()[-1].split("haremq::server: ")[-1], "stopped", "last line")
    again = context.broker()
    connection = again.connect()
    connection.channel().declare("q", passive=True)
    connection.close()
    assert "ERROR" not in again.log and "WARN" not in again.log, again.log
    again.stop()


@test("SIGTERM closes every connection with 320, ends with 0, and the next start is clean")
def sigterm(context):
    stops(context, signal.SIGTERM)


@test("SIGINT closes every connection with 320, ends with 0, and the next start is clean")
def sigint(context):
    stops(context, signal.SIGINT)


@test("a client that does not answer the close does not keep the broker from stopping")
def stubborn(context):
    broker = context.broker(environment={"HAREMQ_TIMEOUTS_SHUTDOWN_MS": "300"})
    connection = broker.connect()
    broker.signal(signal.SIGTERM)
    equal(connection.expect("connection.close").code, 320, "code")
    began = time.monotonic()
    equal(broker.wait(), 0, "exit code")
    assert time.monotonic() - began < 10, "the broker waited for a client without end"


@test("a client that does not read does not keep the broker from stopping")
def unread(context):
    broker = context.broker(environment={"HAREMQ_TIMEOUTS_SHUTDOWN_MS": "300"})
    connection = broker.connect()
    channel = connection.channel()
    channel.declare("q")
    for _ in range(40):
        channel.publish("", "q", b"x" * 100000)
    channel.call("basic.qos", count=0)
    channel.send("basic.consume", queue="q", tag="c", no_ack=True)
    broker.signal(signal.SIGTERM)
    equal(broker.wait(), 0, "exit code")


@test("a connection.close behind unread answers and deliveries gets its close-ok")
def close_with_unread_answers(context):
    broker = context.broker()
    connection = broker.connect()
    channel = connection.channel()
    channel.call("confirm.select")
    channel.declare("q")
    channel.send("basic.consume", queue="q", tag="c", no_ack=True)
    for _ in range(200):
        channel.publish("", "q", b"x" * 1000)
    connection.method(0, "connection.close", code=200, text="bye")
    connection.wait(0, "connection.close-ok")
    equal(connection.rest(), b"", "bytes after close-ok")
    equal(broker.connect().channel().declare("q", passive=True).consumers, 0, "consumers")


@test("a close by the broker reaches a client that is still sending")
def close_with_unread_input(context):
    broker = context.broker()
    connection = broker.connect()
    channel = connection.channel()
    channel.declare("q")
    channel.send("basic.publish", exchange="", routing_key="q", immediate=True)
    body = b"x" * 10000
    message = (frame(FRAME_METHOD, 1, encode_method("basic.publish", routing_key="q"))
               + frame(FRAME_HEADER, 1, struct.pack(">HHQH", 60, 0, len(body), 0)) + frame(FRAME_BODY, 1, body))
    try:
        connection.send(frame(FRAME_HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0)) + message * 50)
    except ConnectionError as error:
        raise AssertionError("the socket broke before the close was read: %s" % error) from None
    closed = connection.await_close()
    equal((closed.code, closed.text), (540, "NOT_IMPLEMENTED - immediate=true"), "close")
    equal(connection.rest(), b"", "bytes after the close")
    equal(broker.connect().channel().declare("q", passive=True).messages, 0, "messages")


@test("messages of a client that vanishes return, redelivered and in order")
def vanished(context):
    broker = context.broker()
    publisher = broker.connect().channel()
    publisher.declare("q")
    publisher.call("confirm.select")
    for number in range(5):
        publisher.publish("", "q", b"%d" % number)
        publisher.wait("basic.ack")
    lost = broker.connect()
    channel = lost.channel()
    channel.call("basic.qos", count=3)
    channel.call("basic.consume", queue="q", tag="c")
    bodies = [channel.wait("basic.deliver").body for _ in range(3)]
    equal(bodies, [b"0", b"1", b"2"], "deliveries")
    channel.send("basic.ack", delivery_tag=1)
    eventually(lambda: publisher.declare("q", passive=True).messages == 1, "one message is ready")
    lost.drop()
    eventually(lambda: publisher.declare("q", passive=True).messages == 4, "the unsettled ones are back")
    back = [publisher.get("q") for _ in range(4)]
    equal([(got.body, got.redelivered) for got in back],
          [(b"1", True), (b"2", True), (b"3", True), (b"4", False)], "messages")
    equal(publisher.get("q").name, "basic.get-empty", "what is left")


@test("a half-closed socket is a client that vanished")
def half_closed(context):
    broker = context.broker()
    connection = broker.connect()
    channel = connection.channel()
    channel.declare("mine", exclusive=True)
    connection.socket.shutdown(1)
    equal(connection.rest(), b"", "bytes to a client that hung up")
    other = broker.connect()
    with refused("channel", 404, "no queue 'mine' in vhost '/'"):
        eventually(lambda: other.channel().declare("mine", passive=True) is None, "the queue is gone")


@test("exclusive queues are gone when close-ok is seen, and 405 to others before")
def exclusive(context):
    broker = context.broker()
    other = broker.connect()
    locked = ("cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared on "
              "another connection or the exclusive property value does not match that of the original declaration.")
    for _ in range(20):
        owner = broker.connect()
        owner.channel().declare("mine", exclusive=True)
        with refused("channel", 405, locked):
            other.channel().declare("mine", passive=True)
        owner.method(0, "connection.close", code=200, text="bye")
        owner.wait(0, "connection.close-ok")
        with refused("channel", 404, "no queue 'mine' in vhost '/'"):
            other.channel().declare("mine", passive=True)


@test("a channel error ends its channel alone, and a hard one the connection with class and method")
def scopes(context):
    broker = context.broker()
    connection = broker.connect()
    first, second = connection.channel(), connection.channel()
    try:
        first.call("queue.purge", queue="none")
        raise AssertionError("a missing queue was purged")
    except Closed as closed:
        equal((closed.scope, closed.code, closed.text, closed.at),
              ("channel", 404, "NOT_FOUND - no queue 'none' in vhost '/'", (50, 30)), "close")
    second.declare("q")
    connection.method(9, "queue.purge", queue="q")
    closed = connection.await_close()
    equal((closed.code, closed.text), (504, "CHANNEL_ERROR - expected 'channel.open'"), "close")
    equal(connection.rest(DEADLOCK_S), b"", "bytes after the close")


@test("clients that connect again and again do not keep the broker from stopping")
def reconnecting(context):
    broker = context.broker(environment={"HAREMQ_TIMEOUTS_SHUTDOWN_MS": "20000"})
    is_over = threading.Event()

    def reconnect():
        while not is_over.is_set():
            try:
                broker.connect().await_close()
            except (Gone, Closed, OSError):
                pass

    clients = [threading.Thread(target=reconnect) for _ in range(4)]
    for client in clients:
        client.start()
    time.sleep(0.1)
    began = time.monotonic()
    broker.signal(signal.SIGTERM)
    code = broker.wait()
    lasted = time.monotonic() - began
    is_over.set()
    for client in clients:
        client.join()
    equal(code, 0, "exit code")
    assert lasted < 10, "the broker took %.1f s to stop" % lasted


@test("when files run out nothing is accepted for a while, and served again when there are some")
def out_of_files(context):
    prefix = ("sh", "-c", "ulimit -n 60; exec \"$@\"", "sh")
    broker = context.spawn("--data-dir", "data", "--amqp", "127.0.0.1:0", "--http", "none",
                           prefix=prefix).until_ready()
    first = broker.connect()
    crowd = [Wire(broker.port) for _ in range(80)]
    eventually(lambda: "cannot accept a connection" in broker.log, "the log says that files ran out")
    first.channel().declare("q")
    for wire in crowd:
        wire.drop()
    broker.connect().channel().declare("q", passive=True)
    first.close()
    broker.stop()


@test("the same port serves again at once after a stop and after kill -9")
def same_port(context):
    address = "127.0.0.1:%d" % free_port()
    for end in ("stop", "kill", "stop"):
        broker = context.spawn("--data-dir", "data", "--amqp", address, "--http", "none").until_ready()
        connections = [broker.connect() for _ in range(5)]
        connections[0].channel().declare("q")
        connections[1].close()
        getattr(broker, end)()
