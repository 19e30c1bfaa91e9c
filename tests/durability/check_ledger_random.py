"""The ledger on random histories of a made-up broker: a sound one never offends it, and a fault never escapes it.

In: chances. Out: two more tests of the part `ledger`. The made-up broker keeps a list of records, of which a crash
leaves some beginning: at least what was synced and what is older than 200 ms. A record is kept whole or not at all.
"""

from harness import equal
from ledger import Ledger, Violation
from letters import Letter
from suite import part

HISTORIES, HISTORIES_LONG = 300, 5000
STEPS = 60
CRASHES = 4
WRITTEN_SECONDS = 0.2
QUEUES = ("a", "b", "c", "d")
SOURCE, TARGET = "a", "d"


class Client:
    """A made-up broker and the one client that it has, with the client's ledger."""

    def __init__(self, chance):
        self.chance, self.now, self.number = chance, 10.0, 0
        self.ledger = Ledger()
        for name in QUEUES:
            self.ledger.add_queue(name, in_order=name != TARGET)
        # Time, what is put into queues, and what is taken out of them.
        self.journal, self.synced = [], 0
        self.ready = {name: [] for name in QUEUES}
        self.held, self.unknown = [], []
        # What the next sync answers: its place in the journal, and what to note.
        self.waiting = []
        self.transaction = None

    def append(self, puts, takes, answer=None):
        self.journal.append((self.now, puts, takes))
        if answer is not None:
            self.waiting.append((len(self.journal), answer))
        for name, letter in puts:
            self.ready[name].append(letter)

    def step(self):
        self.now += self.chance.random() * 0.3
        steps = [self.publish, self.publish, self.sync, self.take, self.take, self.settle, self.settle, self.requeue,
                 self.fetch_settled, self.ask, self.begin, self.in_transaction, self.in_transaction, self.commit]
        self.chance.choice(steps)()

    def letter(self, publisher=1):
        """The next one. What is in transactions has a publisher of its own, because it comes later than its number."""
        self.number += 1
        return Letter(publisher, self.number, 0)

    def publish(self):
        letter, names = self.letter(), self.chance.sample(QUEUES[:3], self.chance.randint(1, 3))
        self.ledger.sending(letter, names, self.now)
        self.append([(name, letter) for name in names], [], lambda: self.ledger.confirmed(letter.key, self.now))

    def sync(self):
        self.synced = len(self.journal)
        for _, answer in self.waiting:
            answer()
        self.waiting = []

    def take(self):
        name = self.chance.choice(QUEUES)
        if self.ready[name]:
            letter = self.ready[name].pop(0)
            self.ledger.delivered(name, letter)
            self.held.append((name, letter))

    def pick_held(self):
        return self.held.pop(self.chance.randrange(len(self.held))) if self.held else None

    def settle(self):
        held = self.pick_held()
        if held is None:
            return
        name, letter = held
        moved_to = TARGET if name == SOURCE and self.chance.random() < 0.7 else None
        self.ledger.settling(name, letter.key, moved_to=moved_to)
        self.unknown.append((name, letter.key))
        self.append([(TARGET, letter)] if moved_to else [], [(name, letter)])

    def requeue(self):
        held = self.pick_held()
        if held is not None:
            name, letter = held
            self.ledger.requeuing(name, letter.key)
            self.ready[name].insert(0, letter)

    def fetch_settled(self):
        name = self.chance.choice(QUEUES[:3])
        if self.ready[name]:
            letter = self.ready[name].pop(0)
            self.append([], [(name, letter)])
            self.ledger.delivered(name, letter)
            self.ledger.settling(name, letter.key, now=self.now)

    def ask(self):
        for name, key in self.unknown:
            self.ledger.settlements_known(name, [key], self.now)
        self.unknown = []

    def begin(self):
        if self.transaction is None:
            self.transaction = self.ledger.begin(), [], []

    def in_transaction(self):
        if self.transaction is None:
            return
        transaction, puts, takes = self.transaction
        if self.chance.random() < 0.5 and self.held:
            name, letter = self.pick_held()
            self.ledger.settling(name, letter.key, transaction=transaction)
            takes.append((name, letter))
        else:
            name, letter = self.chance.choice(QUEUES[:3]), self.letter(2)
            self.ledger.sending(letter, [name], self.now, transaction)
            puts.append((name, letter))

    def commit(self):
        if self.transaction is None:
            return
        (transaction, puts, takes), self.transaction = self.transaction, None
        if self.chance.random() < 0.2:
            self.ledger.rolled_back(transaction)
            self.held += takes
            return
        self.ledger.committing(transaction)
        self.append(puts, takes, lambda: self.ledger.committed(transaction, self.now))

    def crash(self, may_lose_answers=True):
        """A kill -9; what the journal still has decides what is in the queues."""
        if may_lose_answers and self.chance.random() < 0.3 and any(self.ready[name] for name in QUEUES[:3]):
            # The answer to a basic.get is never read.
            name = self.chance.choice([name for name in QUEUES[:3] if self.ready[name]])
            self.append([], [(name, self.ready[name].pop(0))])
            self.ledger.forgive(name)
        written = sum(at <= self.now - WRITTEN_SECONDS for at, _, _ in self.journal)
        del self.journal[self.chance.randint(max(written, self.synced), len(self.journal)):]
        self.ledger.killed(self.now)
        self.synced = len(self.journal)
        self.held, self.unknown, self.waiting, self.transaction = [], [], [], None
        self.now += 0.1
        self.ready = {name: [] for name in QUEUES}
        for _, puts, takes in self.journal:
            for name, letter in puts:
                self.ready[name].append(letter)
            for name, letter in takes:
                self.ready[name].remove(letter)

    def look(self, name):
        self.ledger.checked(name, list(self.ready[name]), len(self.ready[name]), self.now, self.now)
        if self.chance.random() < 0.5:
            for letter in self.ready[name]:
                self.ledger.settling(name, letter.key)
                self.unknown.append((name, letter.key))
                self.append([], [(name, letter)])
            self.ready[name] = []
        else:
            self.ledger.put_back(name)

    def look_at_all(self):
        for name in self.chance.sample(QUEUES, len(QUEUES)):
            self.look(name)


def history(chance):
    """Some runs with crashes between them, each followed by looks into some of the queues."""
    client = Client(chance)
    for _ in range(chance.randint(1, CRASHES)):
        for _ in range(chance.randrange(STEPS)):
            client.step()
        client.crash()
        for name in QUEUES:
            if chance.random() < 0.4:
                client.look(name)
    return last_run(client)


def last_run(client):
    """One more run, in which nothing of before is in doubt."""
    client.crash()
    client.look_at_all()
    client.last_run_at = len(client.journal)
    for _ in range(2 * STEPS):
        client.step()
    return client


@part("ledger", "a broker that keeps what it must never offends the ledger, in random histories")
def sound(_context, options, _say):
    for number in range(HISTORIES_LONG if options.is_long else HISTORIES):
        client = history(options.chance("sound %d" % number))
        try:
            client.crash()
            client.look_at_all()
        except Violation as violation:
            raise AssertionError("--seed %d, history %d: %s" % (options.seed, number, violation)) from violation


def lose(client):
    """A confirmed message that nobody settled is gone."""
    client.sync()
    known = {letter for _, _, takes in client.journal for letter in takes}
    open_takes = client.transaction[2] if client.transaction else []
    ready = [(name, letter) for name in QUEUES for letter in client.ready[name] if (name, letter) not in known]
    victims = [item for item in ready + client.held if item not in open_takes]
    if not victims:
        return None
    victim = client.chance.choice(victims)
    client.crash(may_lose_answers=False)
    if victim not in [(name, letter) for name in QUEUES for letter in client.ready[name]]:
        return None
    client.ready[victim[0]].remove(victim[1])
    return "missing"


def bring_back(client):
    """A message that was settled long ago is there again."""
    client.ask()
    client.sync()
    client.now += 5.0
    settled = [item for _, _, takes in client.journal[client.last_run_at:] for item in takes if item[0] != TARGET]
    client.crash(may_lose_answers=False)
    settled = [(name, letter) for name, letter in settled if letter not in client.ready[name]]
    if not settled:
        return None
    name, letter = client.chance.choice(settled)
    client.ready[name].insert(0, letter)
    return "came back"


def swap(client):
    """Two messages of a queue have changed places."""
    client.crash(may_lose_answers=False)
    for name in QUEUES[:3]:
        ready = client.ready[name]
        if len(ready) > 1 and ready[0].publisher == ready[-1].publisher:
            ready[0], ready[-1] = ready[-1], ready[0]
            return "order"
    return None


def tear(client):
    """Half of a transaction is there."""
    client.commit()
    client.begin()
    transaction, puts, takes = client.transaction
    for name in "b", "c":
        letter = client.letter(2)
        client.ledger.sending(letter, [name], client.now, transaction)
        puts.append((name, letter))
    client.ledger.committing(transaction)
    client.append(puts, takes)
    client.transaction = None
    client.crash(may_lose_answers=False)
    for name, letter in puts:
        if letter in client.ready[name]:
            client.ready[name].remove(letter)
    name, letter = client.chance.choice(puts)
    client.ready[name].append(letter)
    return ("missing", "came back")


@part("ledger", "a lost, returned, displaced or half committed message is found, in random histories")
def faulty(_context, options, _say):
    tried = dict.fromkeys((lose, bring_back, swap, tear), 0)
    for number in range(HISTORIES_LONG if options.is_long else HISTORIES):
        chance = options.chance("faulty %d" % number)
        client, fault = history(chance), chance.choice(list(tried))
        words = fault(client)
        if words is None:
            continue
        tried[fault] += 1
        try:
            client.look_at_all()
        except Violation as violation:
            words = (words,) if isinstance(words, str) else words
            assert str(violation).startswith(words), "--seed %d, history %d: %s, but %s" % (
                options.seed, number, fault.__name__, violation)
            continue
        raise AssertionError("--seed %d, history %d: %s is not found" % (options.seed, number, fault.__name__))
    equal([fault.__name__ for fault, count in tried.items() if count == 0], [], "faults that were never tried")
