"""A clean stop and the next start: what is there, in which order, with which properties; what is gone.

In: the program. Out: the part `restart`.
"""

from amqp import decode_properties, encode_properties
from harness import equal, eventually
from suite import complaints, no_panic, part

ALL_PROPERTIES = dict(
    content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=3, correlation_id="c-1",
    reply_to="answers", message_id="m-1", timestamp=1_700_000_000, type="kind", user_id="guest", app_id="suite",
    headers={"text": "ü", "yes": True, "number": -(1 << 40), "nested": {"list": [1, "two", {"three": 3}]}, "empty": {}})
SIZES = (0, 1, 100, 4096, 131_072, 1 << 20, (1 << 20) + 1, 3 << 20)
RETRY_MS = 50


class Desk:
    """A channel in confirm mode, and what it publishes."""

    def __init__(self, broker):
        self.connection = broker.connect()
        self.channel = self.connection.channel()
        self.channel.call("confirm.select")

    def publish(self, exchange, key, body, **properties):
        properties.setdefault("delivery_mode", 2)
        self.channel.publish(exchange, key, body, properties=encode_properties(**properties))
        self.channel.wait("basic.ack")

    def count(self, queue):
        return self.channel.declare(queue, passive=True).messages

    def contents(self, queue):
        """All that a queue has, in order, with everything that a client sees of it; it is put back."""
        seen = []
        while True:
            got = self.channel.get(queue, no_ack=False)
            if got.name == "basic.get-empty":
                break
            seen.append((got.exchange, got.routing_key, decode_properties(got.properties), got.body))
        if seen:
            self.channel.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
        equal(self.count(queue), len(seen), "messages in %s when they are put back" % queue)
        return seen


def restarted(context, broker):
    """Stops the broker with SIGTERM, and starts the next one."""
    broker.stop()
    no_panic(broker)
    broker = context.broker()
    no_panic(broker)
    equal(complaints(broker.log), [], "complaints of a start after a clean stop")
    return broker


def same(broker, before):
    """Counts at once after the start, and then contents."""
    desk = Desk(broker)
    counts = {queue: desk.count(queue) for queue in before}
    equal(counts, {queue: len(contents) for queue, contents in before.items()}, "counts right after the start")
    for queue, contents in before.items():
        now = desk.contents(queue)
        for number, (found, expected) in enumerate(zip(now, contents)):
            for what, one, other in zip(("exchange", "routing key", "properties"), found, expected):
                equal(one, other, "%s of message %d in %s" % (what, number, queue))
            assert found[3] == expected[3], "the body of message %d in %s has changed" % (number, queue)
    return desk


@part("restart", "persistent messages are there in order with all their properties, transient ones are gone")
def contents(context, _options, _say):
    broker = context.broker()
    desk = Desk(broker)
    channel = desk.channel
    channel.declare("plain")
    channel.declare("ranked", arguments={"x-max-priority": 9})
    channel.declare("quorum", arguments={"x-queue-type": "quorum"})
    channel.declare("bounded", arguments={"x-max-length": 3})
    channel.declare("lasting", arguments={"x-message-ttl": 3_600_000})
    channel.declare("unused")
    channel.call("exchange.declare", exchange="topics", type="topic", durable=True)
    for queue in "plain", "quorum":
        channel.call("queue.bind", queue=queue, exchange="topics", routing_key="a.#")
    for size in SIZES:
        desk.publish("", "plain", bytes(size), message_id="size %d" % size)
    desk.publish("topics", "a.b.c", b"everything", **ALL_PROPERTIES)
    desk.publish("", "plain", b"no properties but that it is persistent")
    desk.publish("", "plain", b"lives", expiration="3600000")
    for number in range(20):
        desk.publish("", "plain", b"transient", delivery_mode=1)
        channel.publish("", "plain", b"transient too", properties=encode_properties())
        channel.wait("basic.ack")
        desk.publish("", "plain", b"%d" % number)
        desk.publish("", "ranked", b"%d" % number, priority=number % 12)
        desk.publish("", "bounded", b"%d" % number)
        desk.publish("", "lasting", b"%d" % number)
        desk.publish("topics", "a.%d" % number, b"%d" % number)
    before = {queue: [message for message in desk.contents(queue) if message[2].get("delivery_mode") == 2]
              for queue in ("plain", "ranked", "bounded", "lasting", "unused", "quorum")}
    # A quorum queue counts how often a message was handed out: look at it as often on both sides, and leave that out.
    before["quorum"] = [without_counters(message) for message in before["quorum"]]
    quorum = before.pop("quorum")
    equal({queue: len(found) for queue, found in before.items()},
          {"plain": len(SIZES) + 43, "ranked": 20, "bounded": 3, "lasting": 20, "unused": 0}, "messages before")
    for _ in range(2):
        broker = restarted(context, broker)
        desk = same(broker, before)
        equal(desk.count("quorum"), len(quorum), "count of the quorum queue")
        equal([without_counters(message) for message in desk.contents("quorum")], quorum, "the quorum queue")
    # What comes now stands behind what was there.
    desk.publish("", "plain", b"later")
    broker = restarted(context, broker)
    before["plain"].append(("", "plain", {"delivery_mode": 2}, b"later"))
    same(broker, before)


def without_counters(message):
    exchange, key, properties, body = message
    headers = {name: value for name, value in properties.get("headers", {}).items()
               if name not in ("x-acquired-count", "x-delivery-count")}
    properties = {**properties, "headers": headers}
    return exchange, key, properties, body


@part("restart", "the history of dead letters goes on counting after a restart")
def deaths(context, _options, _say):
    broker = context.broker()
    desk = Desk(broker)
    channel = desk.channel
    channel.declare("work", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "retry"})
    channel.declare("retry", arguments={"x-message-ttl": RETRY_MS, "x-dead-letter-exchange": "",
                                        "x-dead-letter-routing-key": "work"})
    desk.publish("", "work", b"again", headers={"mine": "kept"}, message_id="again")
    for rounds in 1, 2, 3:
        for _ in range(2):
            got = channel.get("work", no_ack=False)
            channel.send("basic.reject", delivery_tag=got.delivery_tag, requeue=False)
            eventually(lambda: desk.count("work") == 1, "the message is back from its retry")
        before = {"work": desk.contents("work"), "retry": []}
        headers = before["work"][0][2]["headers"]
        equal(headers["mine"], "kept", "the publisher's header")
        equal([(death["queue"], death["reason"], death["count"]) for death in headers["x-death"]],
              [("retry", "expired", 2 * rounds), ("work", "rejected", 2 * rounds)], "x-death")
        broker = restarted(context, broker)
        desk = same(broker, before)
        channel = desk.channel


@part("restart", "what was delivered and not settled, or requeued, is back in its place; what was settled is not")
def unsettled(context, _options, _say):
    broker = context.broker()
    desk = Desk(broker)
    desk.channel.declare("q")
    for number in range(30):
        desk.publish("", "q", b"%02d" % number)
    connection = broker.connect()
    channel = connection.channel()
    channel.call("basic.qos", count=20)
    channel.call("basic.consume", queue="q", tag="c")
    for number in range(20):
        delivery = channel.wait("basic.deliver")
        equal((delivery.body, delivery.redelivered), (b"%02d" % number, False), "delivery")
    for tag in 3, 4, 11:
        channel.send("basic.ack", delivery_tag=tag)
    for number in 20, 21, 22:
        equal(channel.wait("basic.deliver").body, b"%02d" % number, "delivery in the room of an acknowledged one")
    broker = restarted(context, broker)
    desk = Desk(broker)
    left = [number for number in range(30) if number not in (2, 3, 10)]
    equal(desk.count("q"), len(left), "messages right after the start")
    for number in left:
        got = desk.channel.get("q")
        equal(got.body, b"%02d" % number, "body")
        equal(got.redelivered, number <= 22, "whether %d is flagged as delivered before" % number)
    equal(desk.count("q"), 0, "messages at the end")


@part("restart", "a purged queue is empty, a deleted one is gone, and one of its name starts anew")
def removed(context, _options, _say):
    broker = context.broker()
    desk = Desk(broker)
    for name in "purged", "deleted", "renewed", "kept":
        desk.channel.declare(name)
        for number in range(50):
            desk.publish("", name, b"%d" % number)
    held = desk.channel.get("purged", no_ack=False)
    equal(held.body, b"0", "held during the purge")
    desk.channel.call("queue.purge", queue="purged")
    for name in "deleted", "renewed":
        desk.channel.call("queue.delete", queue=name)
    desk.channel.declare("renewed")
    desk.publish("", "renewed", b"new")
    desk.publish("", "purged", b"after")
    for _ in range(2):
        broker = restarted(context, broker)
        desk = Desk(broker)
        found = {name: [message[3] for message in desk.contents(name)] for name in ("purged", "renewed")}
        equal(found, {"purged": [b"0", b"after"], "renewed": [b"new"]}, "bodies")
        equal(desk.count("kept"), 50, "messages in the one that was left alone")
        desk.channel.declare("deleted")
        equal(desk.count("deleted"), 0, "messages in a new queue of an old name")
        desk.channel.call("queue.delete", queue="deleted")
