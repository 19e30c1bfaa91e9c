"""kill -9 under load, again and again, on the same folder.

In: the program. Out: the part `kills`. What is checked stands in `ledger`, what the clients do in `traffic`.
"""

import collections
import socket
import threading
import time

import traffic
from harness import equal
from ledger import Ledger
from suite import complaints, killed, no_panic, part

ROUNDS, ROUNDS_LONG = 20, 200
LOAD_SECONDS = (0.2, 2.0)

# In so many rounds the broker is killed once more while it starts.
KILLED_STARTING = 0.2

# What a run with fewer of them would not have tried.
MESSAGES_A_ROUND_MIN = 20


@part("kills", "a run in which only the clients are cut off fits the ledger, so that the load itself is sound")
def cut_off(context, options, say):
    chance = options.chance("cut off")
    ledger, numbers = Ledger(), collections.Counter()
    broker = context.broker()
    traffic.prepare(broker, ledger)
    # It keeps what comes back in the order in which it came back; only a restart puts it in its place again.
    ledger.queues["quorum"].in_order = False
    for _ in range(options.rounds_of(3, 30)):
        proxy = Cutter(broker)
        load = traffic.Load(proxy, ledger, numbers, chance)
        time.sleep(chance.uniform(*LOAD_SECONDS))
        at = time.monotonic()
        proxy.cut()
        load.end(at)
        settle_down(broker)
        traffic.look_into(broker, ledger, chance, share=0.5)
    traffic.all_gone(broker, ledger)
    say(figures(ledger))


class Cutter:
    """A broker as its clients see it, and the end of all their connections."""

    def __init__(self, broker):
        self.broker, self.connections = broker, []
        self.lock, self.is_cut = threading.Lock(), False

    def connect(self):
        connection = self.broker.connect()
        with self.lock:
            # On a busy machine a client may still be connecting when all are cut off.
            if self.is_cut:
                connection.socket.shutdown(socket.SHUT_RDWR)
            self.connections.append(connection)
        return connection

    def cut(self):
        with self.lock:
            self.is_cut = True
            for connection in self.connections:
                connection.socket.shutdown(socket.SHUT_RDWR)


def settle_down(broker):
    """Waits until nobody holds anything: the counts of all queues stay the same."""
    channel = broker.connect().channel()
    before = None
    while True:
        counts = [channel.declare(queue, passive=True) for queue in traffic.QUEUES]
        now = [(count.messages, count.consumers) for count in counts]
        if now == before and not any(consumers for _, consumers in now):
            return
        before = now
        time.sleep(0.2)


@part("kills", "after kill -9 at any moment no confirmed message is missing and nothing settled is back")
def kills(context, options, say):
    rounds = options.rounds_of(ROUNDS, ROUNDS_LONG)
    chance = options.chance("kills")
    ledger, numbers = Ledger(), collections.Counter()
    broker = context.broker()
    traffic.prepare(broker, ledger)
    for number in range(1, rounds + 1):
        try:
            broker = one_round(context, broker, ledger, numbers, chance, is_last=number == rounds)
        except Exception as error:
            raise AssertionError("--seed %d, round %d: %s: %s" % (
                options.seed, number, type(error).__name__, error)) from error
        if number % 10 == 0:
            say("%d rounds: %s" % (number, figures(ledger)))
    assert ledger.counts["confirmed"] > MESSAGES_A_ROUND_MIN * rounds, figures(ledger)
    assert ledger.counts["committed"] > 0, figures(ledger)


def one_round(context, broker, ledger, numbers, chance, is_last):
    """Load, kill, restart, looks. At the end of the last one everything is drained, and must stay so."""
    load = traffic.Load(broker, ledger, numbers, chance)
    time.sleep(chance.uniform(*LOAD_SECONDS))
    at = time.monotonic()
    killed(broker)
    load.end(at)
    broker = restarted(context, chance)
    traffic.look_into(broker, ledger, chance, share=0.5)
    if is_last:
        traffic.all_gone(broker, ledger)
        time.sleep(1.5)
        at = time.monotonic()
        killed(broker)
        ledger.killed(at)
        broker = restarted(context, chance)
        traffic.all_gone(broker, ledger)
    return broker


def restarted(context, chance):
    """The next broker on the folder; now and then one before it is killed in the middle of its start."""
    while chance.random() < KILLED_STARTING:
        broker = context.spawn("serve", "--data-dir", "data", "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0")
        time.sleep(chance.uniform(0.0, 0.3))
        killed(broker)
    broker = context.broker()
    no_panic(broker)
    # A write that was cut off is no damage.
    equal(complaints(broker.log), [], "complaints of a start after kill -9")
    return broker


def figures(ledger):
    return ", ".join("%d %s" % (count, what) for what, count in sorted(ledger.counts.items()))
