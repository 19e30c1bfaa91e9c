"""Clients that load a broker until it is killed, and looks into its queues; all of it noted in a ledger.

In: a broker, the ledger, chances. Out: entries in the ledger, and errors: what a client must not meet. The clients end
when their connections do. Which queues there are is said here, when the broker dies elsewhere.
"""

import collections
import threading
import time

from amqp import Gone
from harness import equal, eventually
from ledger import Violation
from letters import Letter, random_size, read
from suite import deliveries_until_empty

TTL_MS = 3000
LIVE_SECONDS_MAX = 30.0
FAN = "fan"

# Settlements between two questions whose answer tells that the broker has them.
SETTLEMENTS_A_QUESTION = 16

# Name, arguments, and what is different about it for the ledger and the reader.
QUEUES = {
    "plain": {},
    "windowed": {},
    "fetched": {},
    "deep": {},
    "fan.0": {},
    "fan.1": {},
    "fan.2": {},
    "quorum": {"x-queue-type": "quorum"},
    "rejected": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
    "dead": {},
    "expiring": {"x-message-ttl": TTL_MS},
    "ranked": {"x-max-priority": 5},
    "committed.0": {},
    "committed.1": {},
}
FANNED = ("fan.0", "fan.1", "fan.2")

# Where the broker adds headers of its own: x-death, and the counters of quorum queues.
HEADERS_GROW = ("dead", "quorum")


def prepare(broker, ledger):
    """Declares everything, and tells the ledger of the queues."""
    connection = broker.connect()
    channel = connection.channel()
    channel.call("exchange.declare", exchange=FAN, type="fanout", durable=True)
    for name, arguments in QUEUES.items():
        channel.declare(name, arguments=arguments)
        ledger.add_queue(name, in_order=name != "dead", ttl_s=TTL_MS / 1000 if name == "expiring" else None)
    for name in FANNED:
        channel.call("queue.bind", queue=name, exchange=FAN)
    connection.close()


class Load:
    """All clients of one run of the broker. `chance` also decides which of the takers are there this time."""

    def __init__(self, broker, ledger, numbers, chance):
        self.broker, self.ledger, self.numbers = broker, ledger, numbers
        self.errors, self.ended_at = [], []
        jobs = [
            lambda c: self.publish(1, c, ["plain", "windowed", "fetched", "deep"], window=c.choice([1, 20, 200])),
            lambda c: self.publish(2, c, [FAN, FAN, "plain"], window=100),
            lambda c: self.publish(3, c, ["rejected", "expiring", "ranked", "quorum"], window=100),
            lambda c: self.publish_transactions(4, c),
        ]
        takers = [
            lambda c: self.consume("plain", c, prefetch=50),
            lambda c: self.consume("windowed", c, prefetch=10, requeued=0.1),
            lambda c: self.fetch("fetched", c),
            lambda c: self.consume("fan.0", c, prefetch=100, acks_at_once=7),
            lambda c: self.fetch_settled("fan.1"),
            lambda c: self.consume("quorum", c, prefetch=20, requeued=0.05),
            lambda c: self.consume("rejected", c, prefetch=20, moved=0.5),
            lambda c: self.consume("dead", c, prefetch=5),
            lambda c: self.consume("expiring", c, prefetch=1),
            lambda c: self.consume("ranked", c, prefetch=3),
            lambda c: self.consume_transactions("committed.0", c),
            lambda c: self.consume("committed.1", c, prefetch=0, acks_at_once=3),
        ]
        jobs += chance.sample(takers, chance.randint(len(takers) // 2, len(takers)))
        seeds = [chance.random() for _ in jobs]
        self.threads = [threading.Thread(target=self._run, args=(job, type(chance)(seed)))
                        for job, seed in zip(jobs, seeds)]
        for thread in self.threads:
            thread.start()

    def _run(self, job, chance):
        try:
            job(chance)
        except (Gone, OSError):
            pass
        except Exception as error:  # whatever a client meets is told at the end of the run
            self.errors.append("%s: %s" % (type(error).__name__, error))
        self.ended_at.append(time.monotonic())

    def end(self, killed_at):
        """Call it when the broker is gone: waits for the clients, and notes the kill."""
        for thread in self.threads:
            thread.join(LIVE_SECONDS_MAX)
            assert not thread.is_alive(), "a client does not notice that the broker is gone"
        early = sum(at < killed_at for at in self.ended_at)
        assert not self.errors, "clients met: " + "; ".join(self.errors)
        assert early == 0, "%d clients lost their connection before the broker was killed" % early
        self.ledger.killed(killed_at)

    # ------------------------------------------------------------ publishers

    def _next(self, publisher, chance, small=False):
        self.numbers[publisher] += 1
        size = random_size(chance)
        return Letter(publisher, self.numbers[publisher], min(size, 5000) if small else size, chance.randrange(6))

    def publish(self, publisher, chance, targets, window):
        """Publishes with confirms, to queues or to the fan-out exchange."""
        channel = self.broker.connect().channel()
        channel.call("confirm.select")
        tag, open_tags = 0, collections.OrderedDict()
        while True:
            for _ in range(chance.randint(1, max(window // 4, 1))):
                letter, target = self._next(publisher, chance), chance.choice(targets)
                tag += 1
                open_tags[tag] = letter.key
                if target == FAN:
                    self.ledger.sending(letter, FANNED, time.monotonic())
                    channel.publish(FAN, "", letter.body, properties=letter.properties)
                else:
                    self.ledger.sending(letter, [target], time.monotonic())
                    channel.publish("", target, letter.body, properties=letter.properties)
            self._read_confirms(channel, open_tags, most=window)
            if chance.random() < 0.02:
                self._read_confirms(channel, open_tags, most=0)

    def _read_confirms(self, channel, open_tags, most):
        while len(open_tags) > most or channel.connection.events[channel.number]:
            ack = channel.wait("basic.ack")
            now, last = time.monotonic(), ack.delivery_tag
            tags = [tag for tag in open_tags if tag <= last] if ack.multiple else [last]
            for tag in tags:
                self.ledger.confirmed(open_tags.pop(tag), now)

    def publish_transactions(self, publisher, chance):
        """Publishes groups that are committed, or now and then rolled back."""
        channel = self.broker.connect().channel()
        channel.call("tx.select")
        while True:
            transaction = self.ledger.begin()
            for _ in range(chance.randint(1, 10)):
                letter, target = self._next(publisher, chance, small=True), chance.choice(["committed.0", "committed.1"])
                self.ledger.sending(letter, [target], time.monotonic(), transaction)
                channel.publish("", target, letter.body, properties=letter.properties)
            if chance.random() < 0.1:
                channel.call("tx.rollback")
                self.ledger.rolled_back(transaction)
            else:
                self.ledger.committing(transaction)
                channel.call("tx.commit")
                self.ledger.committed(transaction, time.monotonic())
            if chance.random() < 0.2:
                time.sleep(0.01)

    # ------------------------------------------------------------ takers

    def _taken(self, queue, delivery):
        letter = read(delivery, headers_grow=queue in HEADERS_GROW)
        self.ledger.delivered(queue, letter)
        return letter

    def consume(self, queue, chance, prefetch, requeued=0.0, moved=0.0, acks_at_once=1):
        """Consumes and settles; asks something now and then, so that the answer tells what the broker has."""
        channel = self.broker.connect().channel()
        channel.call("basic.qos", count=prefetch)
        channel.call("basic.consume", queue=queue, tag="taker")
        settler = Settler(self.ledger, channel, queue)
        waiting = []
        while True:
            event = channel.wait("basic.deliver", "queue.declare-ok", limit_s=LIVE_SECONDS_MAX)
            if event.name == "queue.declare-ok":
                settler.answered()
                continue
            letter = self._taken(queue, event)
            if chance.random() < requeued:
                self.ledger.requeuing(queue, letter.key)
                name = chance.choice(["basic.reject", "basic.nack"])
                channel.send(name, delivery_tag=event.delivery_tag, requeue=True)
            elif chance.random() < moved:
                settler.settle([letter.key], moved_to="dead")
                channel.send("basic.reject", delivery_tag=event.delivery_tag, requeue=False)
            elif acks_at_once == 1:
                settler.settle([letter.key])
                channel.send("basic.ack", delivery_tag=event.delivery_tag)
            else:
                waiting.append(letter.key)
                if len(waiting) >= acks_at_once:
                    settler.settle(waiting)
                    channel.send("basic.ack", delivery_tag=event.delivery_tag, multiple=True)
                    waiting = []
            settler.ask()

    def fetch(self, queue, chance):
        """basic.get and ack; some are left for the end of the connection."""
        channel = self.broker.connect().channel()
        settler = Settler(self.ledger, channel, queue)
        while True:
            got = channel.get(queue, no_ack=False)
            if got.name == "basic.get-empty":
                time.sleep(0.005)
            else:
                letter = self._taken(queue, got)
                if chance.random() < 0.95:
                    settler.settle([letter.key])
                    channel.send("basic.ack", delivery_tag=got.delivery_tag)
            if settler.ask():
                channel.wait("queue.declare-ok")
                settler.answered()

    def fetch_settled(self, queue):
        """basic.get without acknowledgement: the broker settles the message itself."""
        channel = self.broker.connect().channel()
        while True:
            try:
                got = channel.get(queue, no_ack=True)
            except (Gone, OSError):
                self.ledger.forgive(queue)
                raise
            if got.name == "basic.get-empty":
                time.sleep(0.005)
            else:
                letter = self._taken(queue, got)
                self.ledger.settling(queue, letter.key, now=time.monotonic())

    def consume_transactions(self, queue, chance):
        """Fetches some messages, acknowledges them, and commits or rolls back."""
        channel = self.broker.connect().channel()
        channel.call("tx.select")
        while True:
            letters = []
            for _ in range(chance.randint(1, 8)):
                got = channel.get(queue, no_ack=False)
                if got.name == "basic.get-empty":
                    break
                letters.append((self._taken(queue, got), got.delivery_tag))
            if not letters:
                time.sleep(0.01)
                continue
            if chance.random() < 0.2:
                channel.send("basic.ack", delivery_tag=letters[-1][1], multiple=True)
                channel.call("tx.rollback")
            transaction = self.ledger.begin()
            for letter, _ in letters:
                self.ledger.settling(queue, letter.key, transaction=transaction)
            channel.send("basic.ack", delivery_tag=letters[-1][1], multiple=True)
            self.ledger.committing(transaction)
            channel.call("tx.commit")
            self.ledger.committed(transaction, time.monotonic())


class Settler:
    """Notes settlements, and from the answers to later questions that the broker has them."""

    def __init__(self, ledger, channel, queue):
        self.ledger, self.channel, self.queue = ledger, channel, queue
        self.since_question, self.asked = [], collections.deque()

    def settle(self, keys, moved_to=None):
        """Call it before the settlement goes out."""
        for key in keys:
            self.ledger.settling(self.queue, key, moved_to=moved_to)
        self.since_question += keys

    def ask(self):
        """Sends a question when it is time, after the settlements."""
        if len(self.since_question) < SETTLEMENTS_A_QUESTION:
            return False
        self.asked.append(self.since_question)
        self.since_question = []
        self.channel.send("queue.declare", queue=self.queue, passive=True)
        return True

    def answered(self):
        self.ledger.settlements_known(self.queue, self.asked.popleft(), time.monotonic())


# ---------------------------------------------------------------- looks into queues

def look(broker, ledger, queue, drain):
    """Takes everything that a queue has, holds it against the ledger, and acknowledges it or puts it back; gives how many
    there were. Nobody else may use the queue."""
    connection = broker.connect()
    channel = connection.channel()
    told = channel.declare(queue, passive=True).messages
    since = time.monotonic()
    deliveries = fetched(channel, queue, told) if queue == "quorum" else consumed(channel, queue, told)
    until = time.monotonic()
    letters = [read(delivery, headers_grow=queue in HEADERS_GROW) for delivery in deliveries]
    ledger.checked(queue, letters, told, since, until)
    equal(channel.declare(queue, passive=True).messages, 0, "messages in %s while all are held" % queue)
    if not deliveries:
        connection.close()
        return 0
    last = deliveries[-1].delivery_tag
    if drain:
        settler = Settler(ledger, channel, queue)
        settler.settle([letter.key for letter in letters])
        channel.send("basic.ack", delivery_tag=last, multiple=True)
        channel.declare(queue, passive=True)
        ledger.settlements_known(queue, [letter.key for letter in letters], time.monotonic())
    else:
        channel.send("basic.nack", delivery_tag=last, multiple=True, requeue=True)
        channel.declare(queue, passive=True)
        ledger.put_back(queue)
    connection.close()
    return len(deliveries)


def consumed(channel, queue, count):
    """So many deliveries, and what comes beyond them. Where messages expire there may be fewer."""
    channel.call("basic.consume", queue=queue, tag="look")
    if queue == "expiring":
        deliveries = list(deliveries_until_empty(channel, queue))
    else:
        deliveries = []
        while len(deliveries) < count:
            try:
                deliveries.append(channel.wait("basic.deliver", limit_s=LIVE_SECONDS_MAX))
            except TimeoutError:
                raise Violation("count: %s told of %d messages, %d came" % (queue, count, len(deliveries))) from None
    channel.send("basic.cancel", tag="look")
    while True:
        event = channel.wait("basic.deliver", "basic.cancel-ok")
        if event.name == "basic.cancel-ok":
            return deliveries
        deliveries.append(event)


def fetched(channel, queue, count):
    """The same with basic.get: a quorum queue lets nobody hold more than 2000 deliveries."""
    for _ in range(count + 1):
        channel.send("basic.get", queue=queue)
    answers = [channel.wait("basic.get-ok", "basic.get-empty") for _ in range(count + 1)]
    return [answer for answer in answers if answer.name == "basic.get-ok"]


def look_into(broker, ledger, chance, share):
    """Looks into a share of the queues, and drains some of them; gives how many messages there were."""
    found = 0
    for queue in QUEUES:
        if chance.random() < share:
            found += look(broker, ledger, queue, drain=chance.random() < 0.5)
    return found


def all_gone(broker, ledger):
    """Drains every queue; after that all of them are empty."""
    for queue in QUEUES:
        look(broker, ledger, queue, drain=True)
    connection = broker.connect()
    channel = connection.channel()
    eventually(lambda: not any(channel.declare(queue, passive=True).messages for queue in QUEUES), "all is drained")
    connection.close()
