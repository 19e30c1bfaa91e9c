"""Alarms of memory and disk: who is blocked, who is told, who goes on, and how it ends."""

import time

from harness import contains, equal, eventually, refused, test
from test_http import get

LISTEN = "[listen]\namqp = ['127.0.0.1:0']\nhttp = ['127.0.0.1:0']\n"
# How long a test watches for something that must not come.
WATCH_S = 0.4
CAPABLE = ["connection.blocked"]


def settings(context, **limits):
    lines = "".join("%s = %s\n" % item for item in limits.items())
    context.write("c.toml", LISTEN + "[alarms]\ncheck_interval_ms = 20\n" + lines)


def start(context, **limits):
    settings(context, **limits)
    return context.spawn("--config", context.path("c.toml")).until_ready()


def reload(context, broker, **limits):
    settings(context, **limits)
    broker.reload("setting changed: in use from now on")


def alarmed(context, limits, reason, resource):
    broker = start(context)
    consumer = broker.connect(capabilities=CAPABLE)
    channel = consumer.channel()
    channel.declare("q")
    channel.call("basic.consume", queue="q", tag="c", no_ack=True)
    publisher = broker.connect(capabilities=CAPABLE)
    sending = publisher.channel()
    sending.call("confirm.select")
    deaf = broker.connect()
    unaware = deaf.channel()

    reload(context, broker, **limits)
    eventually(lambda: reason + ": connections that publish are blocked" in broker.log, "the alarm is logged")
    status, body, _ = get(broker, "/api/health/checks/alarms", "guest:guest")
    equal((status, [alarm["resource"] for alarm in body["alarms"]]), (503, [resource]), "health check")

    # Nobody is blocked who does not publish, and all but publishing goes on.
    publisher.quiet(WATCH_S)
    equal(len(publisher.events[0]), 0, "events of a connection that did not publish")
    sending.declare("other")
    broker.connect().channel().declare("third")

    sending.publish("", "q", b"first")
    equal(publisher.wait(0, "connection.blocked").reason, reason, "reason")
    for number in range(3):
        sending.publish("", "q", b"%d" % number)
    unaware.publish("", "q", b"deaf")
    unaware.publish("", "q", b"deaf")
    publisher.quiet(WATCH_S)
    deaf.quiet(WATCH_S)
    equal((len(publisher.events[0]), len(deaf.events[0])), (0, 0), "further events of the connections")

    # A consumer goes on: it takes what was published before, and declares and acknowledges.
    bodies = []
    consumer.quiet(WATCH_S)
    while consumer.events[1]:
        bodies.append(channel.wait("basic.deliver").body)
    assert len(bodies) <= 2, "published during the alarm: %r" % bodies
    equal(len(consumer.events[0]), 0, "events of the consumer's connection")
    channel.declare("fourth")

    reload(context, broker)
    publisher.wait(0, "connection.unblocked")
    deaf.quiet(WATCH_S)
    equal(len(deaf.events[0]), 0, "events of a connection without the capability")
    while len(bodies) < 6:
        bodies.append(channel.wait("basic.deliver").body)
    equal(sorted(bodies), [b"0", b"1", b"2", b"deaf", b"deaf", b"first"], "bodies in the end")
    eventually(lambda: "there is room again" in broker.log, "the end of the alarm is logged")
    equal(get(broker, "/api/health/checks/alarms", "guest:guest")[0], 200, "health check afterwards")
    for connection in (publisher, consumer, deaf):
        connection.quiet(0.05)
        connection.close()


@test("the memory alarm blocks who publishes, tells who can hear it, and ends with unblocked")
def memory(context):
    alarmed(context, {"memory_high_watermark": "'1MB'"}, "low on memory", "memory")


@test("the disk alarm blocks who publishes, tells who can hear it, and ends with unblocked")
def disk(context):
    alarmed(context, {"disk_free_limit": "'8000TB'"}, "low on disk", "disk")


@test("both alarms are one reason, and blocked is told once")
def both(context):
    broker = start(context, memory_high_watermark="'1MB'", disk_free_limit="'8000TB'")
    publisher = broker.connect(capabilities=CAPABLE)
    sending = publisher.channel()
    sending.publish("", "nowhere")
    equal(publisher.wait(0, "connection.blocked").reason, "low on memory & disk", "reason")
    reload(context, broker, disk_free_limit="'8000TB'")
    publisher.quiet(WATCH_S)
    equal(len(publisher.events[0]), 0, "events while one alarm is on")
    reload(context, broker)
    publisher.wait(0, "connection.unblocked")


@test("an alarm that is on at the start is logged")
def at_start(context):
    broker = start(context, memory_high_watermark="'1MB'")
    eventually(lambda: "low on memory: connections that publish are blocked" in broker.log, "the alarm is logged", 5)


@test("a consumer takes what waits in a queue during an alarm, and may settle it")
def consumers_go_on(context):
    broker = start(context)
    channel = broker.connect().channel()
    channel.call("confirm.select")
    channel.declare("q")
    for number in range(5):
        channel.publish("", "q", b"%d" % number)
        channel.wait("basic.ack")
    reload(context, broker, memory_high_watermark="'1MB'")
    eventually(lambda: "low on memory" in broker.log, "the alarm is logged")
    taking = broker.connect(capabilities=CAPABLE).channel()
    taking.call("basic.qos", count=1)
    taking.call("basic.consume", queue="q", tag="c")
    for number in range(5):
        delivery = taking.wait("basic.deliver")
        equal(delivery.body, b"%d" % number, "body")
        taking.send("basic.ack", delivery_tag=delivery.delivery_tag)
    equal(taking.declare("q", passive=True).messages, 0, "messages left")


@test("a blocked connection outlives its heartbeat, and ends at the broker's stop with 320")
def blocked_ends(context):
    broker = start(context, memory_high_watermark="'1MB'")
    publisher = broker.connect(capabilities=CAPABLE, heartbeat=1)
    publisher.channel().publish("", "nowhere")
    publisher.wait(0, "connection.blocked")
    began = time.monotonic()
    publisher.quiet(4)
    assert time.monotonic() - began >= 3.9, "the connection ended"
    assert publisher.heartbeats >= 2, "%d heartbeats while blocked" % publisher.heartbeats
    broker.signal(15)
    equal(publisher.await_close().code, 320, "code")
    publisher.rest()
    equal(broker.wait(), 0, "exit code")


@test("exclusive queues of a blocked client that hangs up are gone")
def blocked_hang_up(context):
    broker = start(context, memory_high_watermark="'1MB'")
    publisher = broker.connect(capabilities=CAPABLE, heartbeat=1)
    channel = publisher.channel()
    channel.declare("mine", exclusive=True)
    channel.publish("", "mine")
    publisher.wait(0, "connection.blocked")
    publisher.drop()
    other = broker.connect()

    def is_gone():
        try:
            other.channel().declare("mine", passive=True)
        except Exception as error:
            return "404" in str(error)
        return False

    # Nothing is read from a blocked client: it is the broker's own heartbeats that find nobody there.
    eventually(is_gone, "the queue is gone")
    with refused("channel", 404, "no queue 'mine' in vhost '/'"):
        other.channel().declare("mine", passive=True)
    contains(broker.log, "low on memory", "log")
