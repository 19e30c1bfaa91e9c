"""The ledger itself, on made-up histories: it accepts what a sound broker may do, and finds each fault.

In: nothing; no broker is started. Out: the tests of the part `ledger`.
"""

import copy

from harness import contains, equal
from ledger import Ledger, Violation
from letters import BLOCK, Damaged, Letter, random_size, read
from suite import part


class History:
    """One publisher, its letters by number, and queues a, b, c; `old` has expiry, `dead` takes the dead letters of a."""

    def __init__(self, **options):
        self.ledger = Ledger(**options)
        for name in ("a", "b", "c"):
            self.ledger.add_queue(name)
        self.ledger.add_queue("old", ttl_s=10.0)
        self.ledger.add_queue("dead", in_order=False)

    def send(self, numbers, names=("a",), now=0.0, transaction=None):
        for number in numbers:
            self.ledger.sending(Letter(1, number, 5), names, now, transaction)

    def confirm(self, numbers, now=0.0):
        for number in numbers:
            self.ledger.confirmed((1, number), now)

    def publish(self, numbers, names=("a",), now=0.0):
        self.send(numbers, names, now)
        self.confirm(numbers, now)

    def take(self, *numbers, name="a"):
        for number in numbers:
            self.ledger.delivered(name, Letter(1, number, 5))

    def settle(self, *numbers, name="a", known=None, **more):
        for number in numbers:
            self.ledger.settling(name, (1, number), **more)
        if known is not None:
            self.ledger.settlements_known(name, [(1, number) for number in numbers], known)

    def look(self, *numbers, name="a", told=None, since=100.0, until=100.0):
        told = len(numbers) if told is None else told
        self.ledger.checked(name, [Letter(1, number, 5) for number in numbers], told, since, until)
        self.ledger.put_back(name)

    def kill(self, at=100.0):
        self.ledger.killed(at)


def finds(word, act, *arguments, **more):
    """The act must be a violation of the kind that the word names."""
    try:
        act(*arguments, **more)
    except Violation as violation:
        contains(str(violation), word, "violation")
        return
    raise AssertionError("no violation: " + word)


@part("ledger", "what was confirmed must be there, what was not may")
def confirmed(_context, _options, _say):
    for found in (1, 2), (1, 2, 3), (1, 2, 4), (1, 2, 3, 4):
        history = History()
        history.publish([1, 2])
        history.send([3, 4])
        history.kill()
        history.look(*found)
        history.kill()
        # What was there once stays, and what was not does not come.
        history.look(*found)
        for late in {3, 4} - set(found):
            history.kill()
            finds("came back", history.look, *sorted({*found, late}))
    history = History()
    history.publish([1, 2, 3])
    history.kill()
    finds("missing: 1 messages", history.look, 1, 3)
    history = History()
    history.publish([1])
    finds("missing", history.look)


@part("ledger", "what was settled early enough must not come back, what was settled late may")
def settled(_context, _options, _say):
    history = History()
    history.publish([1, 2, 3, 4, 5])
    history.take(1, 2, 3, 4)
    history.settle(1, known=98.9)
    history.settle(2, known=99.5)
    history.settle(3)
    history.kill()
    for found in (2, 3, 4, 5), (3, 4, 5), (2, 4, 5), (4, 5):
        again = History()
        again.ledger.queues = {"a": copy.deepcopy(history.ledger.queues["a"])}
        again.ledger.run = history.ledger.run
        again.look(*found)
    finds("came back", history.look, 1, 4, 5)
    finds("missing", history.look, 2, 3, 5)
    # After a power loss only confirms count.
    history = History(settlement_seconds=float("inf"))
    history.publish([1, 2])
    history.take(1)
    history.settle(1, known=1.0)
    history.kill()
    history.look(1, 2)


@part("ledger", "in one run nothing is delivered twice, after its settlement, or by nobody's publish")
def one_run(_context, _options, _say):
    history = History()
    history.publish([1, 2, 3])
    history.take(1, 2)
    finds("twice", history.take, 2)
    history.settle(1)
    finds("settled", history.take, 1)
    finds("came back", history.take, 4)
    finds("came back", history.take, 3, name="b")
    history.ledger.requeuing("a", (1, 2))
    history.take(3, 2)
    finds("twice", history.take, 2)
    history.kill()
    history.take(1, 2, 3)
    history.ledger.killed(200.0)
    finds("count", history.look, 1, 2, 3, told=4)


@part("ledger", "order holds for each publisher, queue and priority, but for what was requeued")
def order(_context, _options, _say):
    history = History()
    history.publish([1, 2, 3, 4])
    history.take(1, 3)
    finds("order", history.take, 2)
    history.kill()
    finds("order", history.look, 1, 3, 2, 4)
    history = History()
    history.publish([1, 2, 3])
    history.take(1, 2)
    history.ledger.requeuing("a", (1, 1))
    history.take(3, 1)
    # Somebody else's numbers, and those of another priority, have an order of their own.
    history = History()
    for letter in Letter(1, 7, 0), Letter(2, 3, 0), Letter(1, 4, 0, 5):
        history.ledger.sending(letter, ["a"], 0.0)
        history.ledger.delivered("a", letter)
    # A queue of dead letters has the order of their deaths.
    history = History()
    history.publish([1, 2], ["dead"])
    history.kill()
    history.look(2, 1, name="dead")


@part("ledger", "a transaction that was committed is there, one that was not is not, and else it is whole or not at all")
def transactions(_context, _options, _say):
    def history_of(*steps):
        history = History()
        history.publish([1], ["c"])
        history.take(1, name="c")
        transaction = history.ledger.begin()
        history.send([2, 3], ["a"], transaction=transaction)
        history.send([4], ["b"], transaction=transaction)
        history.settle(1, name="c", transaction=transaction)
        for step in steps:
            getattr(history.ledger, step)(transaction, *([50.0] if step == "committed" else []))
        return history

    finds("not committed", history_of().take, 2)
    history = history_of()
    history.kill()
    history.look(name="a")
    history.look(1, name="c")
    history = history_of("rolled_back")
    finds("came back", history.take, 2)
    history = history_of("committing", "committed")
    history.kill(50.0)
    history.look(2, 3)
    finds("missing", history.look, name="b")
    finds("came back", history.look, 1, name="c")

    for name, found, happened in ("a", (2, 3), True), ("a", (), False), ("b", (4,), True), ("b", (), False), (
            "c", (1,), False), ("c", (), True):
        whole = {"a": (2, 3), "b": (4,), "c": ()} if happened else {"a": (), "b": (), "c": (1,)}
        history = history_of("committing")
        history.kill(50.0)
        history.look(*found, name=name)
        for other in whole:
            history.look(*whole[other], name=other)
        for other in {"a", "b", "c"} - {name}:
            history = history_of("committing")
            history.kill(50.0)
            history.look(*found, name=name)
            wrong = {"a": (), "b": (), "c": (1,)} if happened else {"a": (2, 3), "b": (4,), "c": ()}
            finds("came back" if wrong[other] else "missing", history.look, *wrong[other], name=other)
    history = history_of("committing")
    history.kill(50.0)
    finds("missing", history.look, 2)
    # What was taken out of it before the kill tells nothing by its absence.
    history = history_of("committing")
    history.take(2, 3)
    history.settle(2, 3)
    history.kill(50.0)
    history.look()
    history.look(4, name="b")
    history.look(name="c")
    # Seen by a consumer is seen, too.
    history = history_of("committing")
    history.kill(50.0)
    history.take(3)
    finds("missing", history.look, name="b")


@part("ledger", "a confirmed message for several queues is in all of them; an unconfirmed one in all or in none")
def fan_out(_context, _options, _say):
    for missing in "abc":
        history = History()
        history.publish([1], ["a", "b", "c"])
        history.kill()
        for name in {"a", "b", "c"} - {missing}:
            history.look(1, name=name)
        finds("missing", history.look, name=missing)
    history = History()
    history.send([1], ["a", "b", "c"])
    history.kill()
    history.look(1, name="b")
    history.look(1, name="a")
    finds("missing", history.look, name="c")
    history = History()
    history.send([1], ["a", "b", "c"])
    history.kill()
    history.look(name="b")
    finds("came back", history.look, 1, name="c")
    # Its acknowledgement may have been kept.
    history = History()
    history.send([1], ["a", "b"])
    history.take(1)
    history.settle(1)
    history.kill()
    history.look()
    history.look(1, name="b")


@part("ledger", "a dead letter is in its queue or in the one that it moves to, and never in both or none")
def moves(_context, _options, _say):
    def history_of(known=None):
        history = History()
        history.publish([1])
        history.take(1)
        history.settle(1, moved_to="dead", known=known)
        history.kill()
        return history

    history = history_of()
    history.look(1)
    history.look(name="dead")
    history = history_of()
    history.look()
    history.look(1, name="dead")
    history = history_of()
    history.look()
    finds("missing", history.look, name="dead")
    history = history_of()
    history.look(1)
    finds("came back", history.look, 1, name="dead")
    history = history_of()
    history.look(name="dead")
    finds("missing", history.look)
    history = history_of(known=98.0)
    finds("came back", history.look, 1)
    finds("missing", history.look, name="dead")
    # The one that came back may move again.
    history = history_of()
    history.take(1)
    history.settle(1, moved_to="dead", known=150.0)
    history.take(1, name="dead")
    history.kill(200.0)
    history.look()
    history.look(1, name="dead")


@part("ledger", "a message is there until it expires, and not for long after it")
def expiry(_context, _options, _say):
    history = History()
    history.publish([1], ["old"], now=10.0)
    history.kill(11.0)
    finds("missing", history.look, name="old", since=19.0, until=19.9)
    for found in (), (1,):
        history = History()
        history.publish([1], ["old"], now=10.0)
        history.kill(11.0)
        history.look(*found, name="old", told=1, since=19.9, until=20.1)
    finds("expired", history.look, 1, name="old", since=21.0, until=21.0)


@part("ledger", "a message fetched without acknowledgement may be lost on its way, one for each such loss")
def forgiven(_context, _options, _say):
    history = History()
    history.publish([1, 2, 3])
    history.take(1)
    history.settle(1, now=98.0)
    history.ledger.forgive("a")
    history.kill()
    history.look(3)
    history.ledger.killed(200.0)
    finds("missing", history.look)
    # Its absence does not tell that the publish came to nothing.
    history = History()
    history.send([1], ["a", "b"])
    history.ledger.forgive("a")
    history.kill()
    history.look()
    history.look(1, name="b")


class Delivered:
    """A delivery as the client shows it."""

    def __init__(self, properties, body):
        self.properties, self.body = properties, body


@part("ledger", "a damaged body or property is noticed, whatever octet it is")
def contents(_context, options, _say):
    chance = options.chance("contents")
    for number in range(200):
        letter = Letter(chance.randrange(9), number, random_size(chance), chance.randrange(6))
        equal(read(Delivered(letter.properties, letter.body)), letter, "letter")
        damaged = [Delivered(letter.properties, letter.body + b"x")]
        for name in "properties", "body":
            octets = bytearray(getattr(letter, name))
            if octets:
                octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
                damaged.append(Delivered(letter.properties, letter.body))
                setattr(damaged[-1], name, bytes(octets))
        if letter.size > 8:
            damaged.append(Delivered(letter.properties, letter.body[1:] + letter.body[:1]))
            damaged.append(Delivered(letter.properties, Letter(*letter._replace(number=number + 1)).body))
        for delivery in damaged:
            try:
                read(delivery)
            except Damaged:
                continue
            raise AssertionError("seed %d: %s is taken for sound" % (options.seed, letter.message_id))
    assert len(set(BLOCK[at:at + 8] for at in range(0, 80_000, 8))) == 10_000, "the block repeats"
