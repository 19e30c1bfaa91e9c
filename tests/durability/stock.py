"""A stopped broker's folder with messages in every kind of file, and what a broker serves of a damaged copy of it.

In: a context. Out: what lies in which queue; after the damage, which of it came and whether anything wrong did.
"""

import signal

from amqp import Closed
from harness import equal
from letters import BODY_BYTES_MAX, Letter, read
from suite import deliveries_until_empty, no_panic

# Name, arguments, messages, size of their bodies. The large ones are more than the journal keeps, so that segments are
# written; those above 1 MiB have files of their own. What comes last is in the journal alone.
STOCK = (
    ("blobs", {}, 3, BODY_BYTES_MAX),
    ("large", {}, 2200, 64 << 10),
    ("small", {}, 2000, 300),
    ("settled", {}, 1500, 500),
    ("ranked", {"x-max-priority": 3}, 900, 800),
    ("quorum", {"x-queue-type": "quorum"}, 800, 400),
    ("late", {}, 600, 2000),
)
WINDOW = 500

# Of the queue `settled` those are acknowledged whose number is not a multiple of this.
KEPT_EACH = 7


def publish(broker, number, name, arguments, count, size):
    """One queue's messages, confirmed; gives them in order."""
    connection = broker.connect()
    channel = connection.channel()
    channel.declare(name, arguments=arguments)
    channel.call("confirm.select")
    letters = [Letter(number, place, size, place % 4) for place in range(1, count + 1)]
    confirmed, single = 0, set()
    for sent, letter in enumerate(letters, 1):
        channel.publish("", name, letter.body, properties=letter.properties)
        while sent - confirmed - len(single) > WINDOW or (sent == count and confirmed < count):
            ack = channel.wait("basic.ack")
            if ack.multiple:
                confirmed = max(confirmed, ack.delivery_tag)
            else:
                single.add(ack.delivery_tag)
            while confirmed + 1 in single:
                confirmed += 1
            single = {tag for tag in single if tag > confirmed}
    connection.close()
    return letters


def settle(broker, name, letters):
    """Acknowledges most messages of a queue; gives those that stay."""
    connection = broker.connect()
    channel = connection.channel()
    channel.call("basic.consume", queue=name, tag="c")
    for letter in letters:
        delivery = channel.wait("basic.deliver")
        equal(read(delivery).key, letter.key, "letter")
        if letter.number % KEPT_EACH:
            channel.send("basic.ack", delivery_tag=delivery.delivery_tag)
    connection.close()
    return [letter for letter in letters if letter.number % KEPT_EACH == 0]


def make(context, data="sound"):
    """Fills a folder, stops its broker, and gives what lies in each queue."""
    broker = context.broker(data=data)
    stock = {}
    for number, (name, arguments, count, size) in enumerate(STOCK, 1):
        stock[name] = publish(broker, number, name, arguments, count, size)
        if name == "settled":
            stock[name] = settle(broker, name, stock[name])
    broker.stop()
    no_panic(broker)
    return stock


def serve(broker, stock):
    """Takes everything that a broker has; gives how many are missing and how many came that were settled. A delivery
    whose content is not what was published, or that came twice, is an error."""
    missing = surplus = 0
    for name, letters in stock.items():
        expected = {letter.key for letter in letters}
        found = take(broker, name)
        if found is None:
            missing += len(expected)
            continue
        keys = [letter.key for letter in found]
        equal(len(set(keys)), len(keys), "different messages from " + name)
        number = letters[0].publisher
        strange = [letter for letter in found if letter.publisher != number]
        assert not strange, "%s has messages of another queue: %s" % (name, strange[:5])
        latest = {}
        for letter in found:
            before = latest.get(letter.priority, 0)
            assert letter.number > before, "%s: number %d after %d" % (name, letter.number, before)
            latest[letter.priority] = letter.number
        missing += len(expected - set(keys))
        surplus += len(set(keys) - expected)
    return missing, surplus


def take(broker, name):
    """All messages of a queue, each checked; `None` if there is no such queue."""
    connection = broker.connect()
    channel = connection.channel()
    try:
        channel.declare(name, passive=True)
    except Closed as closed:
        equal((closed.scope, closed.code), ("channel", 404), "refusal of " + name)
        connection.close()
        return None
    channel.call("basic.qos", count=1000)
    channel.call("basic.consume", queue=name, tag="c")
    found = []
    for delivery in deliveries_until_empty(channel, name):
        found.append(read(delivery, headers_grow=name == "quorum"))
        channel.send("basic.ack", delivery_tag=delivery.delivery_tag)
    connection.close()
    return found


def start_or_refusal(context, data):
    """Starts a broker on a folder that may be damaged: the broker, or `None` if it refused with one clear line."""
    broker = context.spawn("serve", "--data-dir", data, "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0")
    try:
        broker.until_ready()
    except AssertionError:
        no_panic(broker)
        code = broker.process.poll()
        lines = [line for line in broker.log.splitlines() if line.startswith("haremq: ")]
        assert code not in (None, 0, 101, -signal.SIGABRT, -signal.SIGSEGV) and len(lines) == 1, (
            "neither ready nor a clear refusal: code %r\n%s" % (code, broker.log))
        return None
    return broker
