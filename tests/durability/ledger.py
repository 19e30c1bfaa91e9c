"""What a broker may and must hold after a crash, kept outside of it.

In: what clients sent, what they were answered and delivered, when the broker was killed, and complete looks into queues.
Out: a `Violation` as soon as no broker that keeps its promises could have done that. Times are seconds of one clock, and
come in as arguments. It knows no socket and no process.

A copy is one message in one queue. It must be there once its publish was confirmed, or once it was seen after a
restart, until its settlement is sent. Of what was under way at the kill nobody knows what became of it, but some of it
has one **fate**: a transaction, a message for several queues and a move to a dead-letter queue happen whole or not at
all. The first trace of one or the other decides what must be there and what must not.
"""

import threading
from collections import defaultdict

# Settlements may be lost that were not yet journaled: at the latest 200 ms after they came; the rest is for the way.
SETTLEMENT_SECONDS = 1.0

# A message may be delivered so long after it expired: it was on its way, or its publish took so long.
EXPIRY_SECONDS = 0.5
UNKNOWN = float("inf")
SHOWN_MAX = 10


class Violation(Exception):
    """A promise that was not kept."""


class Copy:
    """A message in a queue that may still be there."""

    __slots__ = ("run", "priority", "sent_at", "confirmed_at", "proven", "settled_at", "is_held", "is_requeued",
                 "transaction", "fates")

    def __init__(self, run, priority, sent_at, transaction):
        self.run, self.priority, self.sent_at, self.transaction = run, priority, sent_at, transaction
        self.confirmed_at = None
        # Whether it must be there, but for a settlement.
        self.proven = False
        # None; UNKNOWN once the settlement was sent; the time at which the broker is known to have it.
        self.settled_at = None
        self.is_held = self.is_requeued = False
        self.fates = ()


class Queue:
    """The copies of one queue."""

    def __init__(self, in_order, ttl_s):
        self.in_order, self.ttl_s = in_order, ttl_s
        self.copies = {}
        # The number that was delivered last, by publisher and priority, in this run.
        self.latest = {}
        # Copies that may be missing, whichever they are: fetched without acknowledgement, the answer never read.
        self.forgiven = 0


class Fate:
    """What happened whole or not at all. Members: queue, key, whether the copy is there if it happened, and whether its
    absence tells nothing."""

    def __init__(self, words):
        self.words, self.members = words, []


class Transaction:
    """What a client did between tx.select or tx.commit and the next commit."""

    def __init__(self):
        self.published, self.settled = [], []
        self.is_committing = False


class Ledger:
    """All queues of a broker over its runs. Safe to use from several threads."""

    def __init__(self, settlement_seconds=SETTLEMENT_SECONDS):
        self.settlement_seconds = settlement_seconds
        self.lock = threading.RLock()
        self.run = 0
        self.queues = {}
        self.unconfirmed = {}
        self.transactions = []
        self.moves = []
        self.counts = defaultdict(int)

    def add_queue(self, name, in_order=True, ttl_s=None):
        """`in_order`: what one publisher sends with one priority is delivered in that order."""
        self.queues[name] = Queue(in_order, ttl_s)

    # ------------------------------------------------------------ publishers

    def sending(self, letter, names, now, transaction=None):
        """Call it before the publish goes out."""
        with self.lock:
            self.counts["published"] += 1
            for name in names:
                self.queues[name].copies[letter.key] = Copy(self.run, letter.priority, now, transaction)
            if transaction is None:
                self.unconfirmed[letter.key] = tuple(names)
            else:
                transaction.published.extend((name, letter.key) for name in names)

    def confirmed(self, key, now):
        with self.lock:
            self.counts["confirmed"] += 1
            for name in self.unconfirmed.pop(key):
                self._prove(name, key, now)

    def begin(self):
        """A transaction that starts."""
        transaction = Transaction()
        with self.lock:
            self.transactions.append(transaction)
        return transaction

    def committing(self, transaction):
        """Call it before tx.commit goes out."""
        with self.lock:
            transaction.is_committing = True
            for name, key in transaction.published:
                self.queues[name].copies[key].transaction = None
            for name, key in transaction.settled:
                self.queues[name].copies[key].settled_at = UNKNOWN

    def committed(self, transaction, now):
        """tx.commit-ok: its settlements are synced too."""
        with self.lock:
            self.counts["committed"] += 1
            self.transactions.remove(transaction)
            for name, key in transaction.published:
                self._prove(name, key, now)
            for name, key in transaction.settled:
                self._drop(name, key)

    def rolled_back(self, transaction):
        """tx.rollback-ok."""
        with self.lock:
            self.transactions.remove(transaction)
            for name, key in transaction.published:
                self._drop(name, key)

    def _prove(self, name, key, now):
        copy = self.queues[name].copies.get(key)
        if copy is not None:
            copy.proven = True
            copy.confirmed_at = now

    # ------------------------------------------------------------ consumers

    def delivered(self, name, letter):
        """A delivery. It is an error if the copy cannot be in the queue, or somebody holds it."""
        with self.lock:
            self.counts["delivered"] += 1
            queue = self.queues[name]
            copy = queue.copies.get(letter.key)
            what = "%s in %s" % (letter.message_id, name)
            if copy is None:
                raise Violation("came back: %s was settled, rolled back or never sent there" % what)
            if copy.transaction is not None:
                raise Violation("not committed: %s is delivered" % what)
            if copy.settled_at is not None:
                raise Violation("settled: %s is delivered again in the same run" % what)
            if copy.is_held:
                raise Violation("twice: %s is delivered while it is held" % what)
            copy.is_held = True
            self._check_order(queue, copy, letter, what)
            if copy.run < self.run:
                # It came from the disk, so that it is there the next time too.
                copy.proven = True
            for fate, place in list(copy.fates):
                self._decide(fate, fate.members[place][2])

    def _check_order(self, queue, copy, letter, what):
        if not queue.in_order or copy.is_requeued:
            return
        stream = letter.publisher, copy.priority
        latest = queue.latest.get(stream, 0)
        if letter.number <= latest:
            raise Violation("order: %s is delivered after number %d" % (what, latest))
        queue.latest[stream] = letter.number

    def settling(self, name, key, moved_to=None, transaction=None, now=UNKNOWN):
        """Call it before the settlement goes out. `moved_to`: the queue of its dead letters; `now`: the broker is known to
        have it, because it settled the message itself (no-ack). In a transaction, `committing` counts."""
        with self.lock:
            copy = self.queues[name].copies[key]
            if transaction is not None:
                transaction.settled.append((name, key))
                return
            copy.settled_at = now
            if moved_to is not None:
                self.queues[moved_to].copies[key] = Copy(self.run, copy.priority, copy.sent_at, None)
                self.moves.append((name, moved_to, key))

    def settlements_known(self, name, keys, now):
        """The broker answered something on the same channel that was asked after these settlements."""
        with self.lock:
            for key in keys:
                copy = self.queues[name].copies.get(key)
                if copy is not None and copy.settled_at == UNKNOWN:
                    copy.settled_at = now

    def requeuing(self, name, key):
        """Call it before the reject or nack goes out. The copy may come again, out of order."""
        with self.lock:
            copy = self.queues[name].copies[key]
            copy.is_held, copy.is_requeued = False, True

    def forgive(self, name):
        """A message may have been handed out and settled by that, while the client never read it."""
        with self.lock:
            self.queues[name].forgiven += 1

    # ------------------------------------------------------------ crashes

    def killed(self, at):
        """The broker was killed at that time; all that clients had been answered has been noted before."""
        with self.lock:
            self.run += 1
            opened = [self._fate_of_publish(key, names) for key, names in self.unconfirmed.items() if len(names) > 1]
            for transaction in self.transactions:
                if transaction.is_committing:
                    opened.append(self._fate_of_transaction(transaction))
            opened += [self._fate_of_move(*move, at) for move in self.moves]
            self.unconfirmed, self.transactions, self.moves = {}, [], []
            for name, queue in self.queues.items():
                queue.latest = {}
                for key, copy in list(queue.copies.items()):
                    if copy.transaction is not None or self._is_settled(copy, at):
                        self._drop(name, key)
                        continue
                    if copy.settled_at is not None:
                        copy.settled_at, copy.proven = None, False
                    copy.is_held = copy.is_requeued = False
            for fate in filter(None, opened):
                self._open(fate)

    def _is_settled(self, copy, at):
        return copy.settled_at is not None and copy.settled_at <= at - self.settlement_seconds

    def _fate_of_publish(self, key, names):
        fate = Fate("the publish of %d.%d" % key)
        fate.members = [self._published(name, key) for name in names]
        return fate

    def _fate_of_transaction(self, transaction):
        fate = Fate("a transaction")
        fate.members = [self._published(name, key) for name, key in transaction.published]
        for name, key in transaction.settled:
            copy = self.queues[name].copies[key]
            fate.members.append((name, key, False, not copy.proven))
        return fate

    def _fate_of_move(self, source, target, key, at):
        copy = self.queues[source].copies.get(key)
        moved = self.queues[target].copies.get(key)
        if copy is None or moved is None:
            return None
        if self._is_settled(copy, at):
            # The dead letter was journaled together with the settlement.
            moved.proven = True
            return None
        if not copy.proven:
            return None
        fate = Fate("the dead letter of %d.%d" % key)
        fate.members = [(source, key, False, False), self._published(target, key)]
        return fate

    def _published(self, name, key):
        copy = self.queues[name].copies.get(key)
        return name, key, True, copy is None or copy.settled_at is not None

    def _open(self, fate):
        for place, (name, key, _, _) in enumerate(fate.members):
            copy = self.queues[name].copies.get(key)
            if copy is not None:
                copy.fates += ((fate, place),)

    def _decide(self, fate, happened):
        """Draws the conclusions for all members; the copy that gave it away is known to be there or not."""
        for name, key, if_happened, is_weak in fate.members:
            copy = self.queues[name].copies.get(key)
            if copy is None or not any(known is fate for known, _ in copy.fates):
                continue
            copy.fates = tuple(item for item in copy.fates if item[0] is not fate)
            if if_happened != happened:
                self._drop(name, key)
            elif not is_weak:
                copy.proven = True

    # ------------------------------------------------------------ looks into queues

    def checked(self, name, letters, told, since, until):
        """A complete look into a queue that nobody else uses: these deliveries came, in this order; the broker had said
        that there are `told`. The look lasted from `since` to `until`. All are held afterwards."""
        with self.lock:
            queue = self.queues[name]
            queue.latest = {}
            for letter in letters:
                self._check_expired(queue, name, letter, since)
                self.delivered(name, letter)
            if queue.ttl_s is None and told != len(letters):
                raise Violation("count: %s told of %d messages and has %d" % (name, told, len(letters)))
            missing = self._absent(name, {letter.key for letter in letters}, until)
            missing = missing[:max(len(missing) - queue.forgiven, 0)]
            queue.forgiven = 0
            if missing:
                shown = ", ".join("%d.%d" % key for key in missing[:SHOWN_MAX])
                raise Violation("missing: %d messages that %s must have: %s" % (len(missing), name, shown))

    def put_back(self, name):
        """What was held of a queue was requeued as a whole, and is in its order again."""
        with self.lock:
            queue = self.queues[name]
            queue.latest = {}
            for copy in queue.copies.values():
                copy.is_held = False

    def _check_expired(self, queue, name, letter, since):
        copy = queue.copies.get(letter.key)
        if queue.ttl_s is None or copy is None or copy.confirmed_at is None:
            return
        late_s = since - (copy.confirmed_at + queue.ttl_s)
        if late_s > EXPIRY_SECONDS:
            raise Violation("expired: %s in %s came %.1f s after its end" % (letter.message_id, name, late_s))

    def _absent(self, name, present, until):
        """Draws conclusions from what is not there; gives what must be."""
        queue, missing = self.queues[name], []
        for key in [key for key in queue.copies if key not in present]:
            copy = queue.copies.get(key)
            if copy is None or copy.settled_at is not None:
                continue
            if queue.ttl_s is not None and until >= copy.sent_at + queue.ttl_s:
                self._drop(name, key)
            elif copy.proven:
                missing.append(key)
                self._drop(name, key)
            else:
                for fate, place in list(copy.fates):
                    _, _, if_happened, is_weak = fate.members[place]
                    if not is_weak and not queue.forgiven:
                        self._decide(fate, not if_happened)
                self._drop(name, key)
        return missing

    def _drop(self, name, key):
        self.queues[name].copies.pop(key, None)
