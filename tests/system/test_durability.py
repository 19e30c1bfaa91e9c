"""What must be there after a restart and after kill -9, and what must not; a ledger of what was answered."""

import os
import random
import stat
import threading
import time

from amqp import Gone
from harness import Closed, equal, eventually, refused, test

ROUNDS = 20
# Operations that are under way at a time: the broker executes a channel's in their order.
PIPELINE = 8


@test("durable queues, exchanges and bindings outlive a restart, everything else does not")
def restart(context):
    for end in ("stop", "kill"):
        broker = context.broker(data=end)
        connection = broker.connect()
        channel = connection.channel()
        channel.declare("durable", arguments={"x-max-length": 5, "x-dead-letter-exchange": "amq.fanout"})
        channel.declare("shrinking", auto_delete=True)
        channel.declare("transient", durable=False)
        channel.declare("mine", exclusive=True, durable=True)
        named = channel.declare("").queue
        for name, options in [("kept", {"durable": True}), ("gone", {}),
                              ("inner", {"durable": True, "internal": True, "auto_delete": True}),
                              ("alternate", {"durable": True, "arguments": {"alternate-exchange": "kept"}})]:
            channel.call("exchange.declare", exchange=name, type="direct", **options)
        for source, destination, key in [
                ("kept", "durable", "a"), ("kept", "transient", "b"), ("gone", "durable", "c"),
                ("amq.topic", "durable", "t.#"), ("inner", "durable", "e"), ("kept", "mine", "f")]:
            channel.call("queue.bind", queue=destination, exchange=source, routing_key=key)
        channel.call("queue.bind", queue="durable", exchange="amq.headers", routing_key="h",
                     arguments={"x-match": "all-with-x", "deep": {"list": [1, "two", True]}})
        channel.call("exchange.bind", destination="inner", source="kept", routing_key="e")
        channel.call("exchange.bind", destination="gone", source="kept", routing_key="g")
        getattr(broker, end)()

        broker = context.broker(data=end)
        connection = broker.connect()
        channel = connection.channel()
        channel.call("confirm.select")
        channel.declare("durable", arguments={"x-max-length": 5, "x-dead-letter-exchange": "amq.fanout"})
        channel.declare("shrinking", auto_delete=True)
        channel.declare(named)
        channel.call("exchange.declare", exchange="kept", type="direct", durable=True)
        channel.call("exchange.declare", exchange="inner", type="direct", durable=True, internal=True,
                     auto_delete=True)
        channel.call("exchange.declare", exchange="alternate", type="direct", durable=True,
                     arguments={"alternate-exchange": "kept"})
        for name in ("transient", "mine"):
            with refused("channel", 404, "no queue '%s' in vhost '/'" % name):
                connection.channel().declare(name, passive=True)
        with refused("channel", 404, "no exchange 'gone' in vhost '/'"):
            connection.channel().call("exchange.declare", exchange="gone", passive=True)
        routed = {key: channel.is_routed("kept", key) for key in "abefg"}
        equal(routed, {"a": True, "b": False, "e": True, "f": False, "g": False}, "routed by 'kept'")
        equal(channel.is_routed("amq.topic", "t.x"), True, "routed by amq.topic")
        equal(channel.is_routed("alternate", "a"), True, "routed by the alternate exchange")
        # Bindings of what is gone do not come back with its name.
        channel.declare("transient", durable=False)
        channel.call("exchange.declare", exchange="gone", type="direct")
        equal((channel.is_routed("kept", "b"), channel.is_routed("gone", "c")), (False, False), "routed again")
        # The last binding with it as source goes, and the auto-delete exchange with it.
        channel.call("queue.unbind", queue="durable", exchange="inner", routing_key="e")
        with refused("channel", 404, "no exchange 'inner' in vhost '/'"):
            connection.channel().call("exchange.declare", exchange="inner", passive=True)


class Model:
    """The queues, exchanges and bindings of one client; `state` after any number of its operations."""

    def __init__(self, prefix, seed):
        self.random = random.Random(seed)
        self.queues = ["%s-q%d" % (prefix, number) for number in range(4)]
        self.exchanges = ["%s-x%d" % (prefix, number) for number in range(3)]
        self.sink = "sink"
        self.state = frozenset()

    def pick(self, state):
        """An operation that is in order after `state`: method, its values, and the state that it leads to."""
        while True:
            kind, queue, source = self.random.randrange(8), self.random.choice(self.queues), self.random.choice(
                self.exchanges)
            key = "k%d" % self.random.randrange(3)
            to_queue, to_sink = ("bind", source, queue, key), ("bind", source, self.sink, key)
            has_queue, has_source = ("queue", queue) in state, ("exchange", source) in state
            if kind in (0, 1) and not has_queue:
                return "queue.declare", {"queue": queue, "durable": True}, state | {("queue", queue)}
            if kind in (2, 3) and not has_source:
                values = {"exchange": source, "type": "direct", "durable": True}
                return "exchange.declare", values, state | {("exchange", source)}
            if kind == 4 and has_queue and self.random.random() < 0.4:
                return "queue.delete", {"queue": queue}, without(state, "queue", queue)
            if kind == 5 and has_source and self.random.random() < 0.4:
                return "exchange.delete", {"exchange": source}, without(state, "exchange", source)
            if kind == 6 and has_queue and has_source:
                values = {"queue": queue, "exchange": source, "routing_key": key}
                if to_queue in state:
                    return "queue.unbind", values, state - {to_queue}
                return "queue.bind", values, state | {to_queue}
            if kind == 7 and has_source:
                values = {"destination": self.sink, "source": source, "routing_key": key}
                if to_sink in state:
                    return "exchange.unbind", values, state - {to_sink}
                return "exchange.bind", values, state | {to_sink}


def without(state, kind, name):
    """The state when a queue or exchange and its bindings are gone."""
    return frozenset(item for item in state if item != (kind, name) and not (item[0] == "bind" and name in item[1:3]))


def work(broker, model, candidates, answered, errors):
    """Operations without end. `candidates`: the state that was answered, then the states after each step under way."""
    try:
        channel = broker.connect().channel()
        while True:
            while len(candidates) <= PIPELINE:
                method, values, state = model.pick(candidates[-1][1])
                candidates.append((method + "-ok", state))
                channel.send(method, **values)
            channel.wait(candidates[1][0])
            candidates.pop(0)
            answered.append(candidates[0][0])
    except (Gone, OSError):
        pass
    except (Closed, AssertionError, ValueError) as error:
        errors.append(error)


def found(broker, model):
    """The state as the broker has it."""
    connection, state = broker.connect(), set()
    for kind, names in ("queue", model.queues), ("exchange", model.exchanges):
        for name in names:
            try:
                connection.channel().call(kind + ".declare", passive=True, **{kind: name})
                state.add((kind, name))
            except Closed as closed:
                equal((closed.scope, closed.code), ("channel", 404), "refusal of " + name)
    channel = connection.channel()
    channel.call("confirm.select")
    for source in [item[1] for item in state if item[0] == "exchange"]:
        for key in ("k0", "k1", "k2"):
            channel.publish(source, key, b"probe")
            channel.wait("basic.ack")
            for queue in [item[1] for item in state if item[0] == "queue"] + ["sinkq"]:
                if channel.get(queue).name == "basic.get-ok":
                    state.add(("bind", source, "sink" if queue == "sinkq" else queue, key))
    connection.close()
    return frozenset(state)


@test("after kill -9 nothing answered is missing and nothing deleted is back, in twenty kills")
def killed(context):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    models = [Model("m%d" % number, chance.random()) for number in range(2)]
    broker = context.broker()
    channel = broker.connect().channel()
    channel.call("exchange.declare", exchange="sink", type="fanout", durable=True)
    channel.declare("sinkq")
    channel.call("queue.bind", queue="sinkq", exchange="sink")
    answered = []
    for number in range(ROUNDS):
        errors, ledgers, clients = [], [], []
        for model in models:
            ledgers.append([("", model.state)])
            clients.append(threading.Thread(target=work, args=(broker, model, ledgers[-1], answered, errors)))
        for client in clients:
            client.start()
        time.sleep(chance.uniform(0.02, 0.4))
        broker.kill()
        for client in clients:
            client.join()
        assert not errors, "seed %d, round %d: %s" % (seed, number, errors)
        broker = context.broker()
        assert "damaged" not in broker.log, "seed %d, round %d:\n%s" % (seed, number, broker.log)
        for model, ledger in zip(models, ledgers):
            model.state = found(broker, model)
            possible = [state for _, state in ledger]
            assert model.state in possible, "seed %d, round %d\nfound   %s\nmissing %s\ntoo much %s\nunder way %s" % (
                seed, number, sorted(model.state), sorted(possible[0] - model.state),
                sorted(model.state - possible[0]), [name for name, _ in ledger[1:]])
    assert len(answered) > 20 * ROUNDS, "seed %d: only %d operations were answered" % (seed, len(answered))
    equal(len(set(answered)), 8, "kinds of operations")


@test("whatever the umask, nobody but the owner can read what lies in the data folder")
def modes(context):
    broker = context.spawn("serve", "--data-dir", "data", "--amqp", "127.0.0.1:0", "--http", "none",
                           prefix=("sh", "-c", 'umask 000; exec "$0" "$@"')).until_ready()
    channel = broker.connect().channel()
    channel.call("confirm.select")
    channel.declare("q")
    data = context.path("data")
    # One body has a file of its own, the others fill journal files until some are moved to a segment.
    channel.publish("", "q", bytes(2 << 20), persistent=True)
    channel.wait("basic.ack")
    for _ in range(150):
        channel.publish("", "q", bytes(1_000_000), persistent=True)
        channel.wait("basic.ack")
    eventually(lambda: modes_in(data, "queues")[1], "a segment is there")
    eventually(lambda: os.path.exists(os.path.join(data, "meta.json")), "an export is there")
    broker.stop()
    equal(stat.S_IMODE(os.stat(data).st_mode), 0o750, "mode of the data folder")
    folders, found = modes_in(data, "")
    kinds = {name.split(os.sep)[0] for name in found}
    for kind in ("journal", "queues", "blobs", "meta.json", "haremq-format", "haremq.lock"):
        assert kind in kinds, "there is no %s: %s" % (kind, sorted(kinds))
    equal({name: oct(mode) for name, mode in found.items() if mode != 0o600 and not name.startswith("meta" + os.sep)},
          {}, "files of another mode than 0600")
    # sled gives its files the modes that it likes, in a folder that only the owner can enter.
    equal(folders.pop("meta"), 0o700, "mode of meta")
    equal({name: oct(mode) for name, mode in folders.items() if mode & 0o027 and not name.startswith("meta" + os.sep)},
          {}, "folders that are open to others")


def modes_in(data, folder):
    """Modes of the folders and of the files in a folder of the data folder, by their paths in the latter."""
    folders, found = {}, {}
    for where, below, names in os.walk(os.path.join(data, folder)):
        for into, some in ((folders, below), (found, names)):
            for name in some:
                path = os.path.join(where, name)
                into[os.path.relpath(path, data)] = stat.S_IMODE(os.lstat(path).st_mode)
    return folders, found
