"""Bytes of each thing that a broker holds: connections, channels, queues, bindings, consumers, unacknowledged messages.

In: a broker. Out: private memory (RssAnon) with so many of a thing, less that without, divided by their number.
"""

import brokers  # noqa: F401  (its folder is on the path of the modules below)
import crowd
import frames
import loads
import report
from client import Client

# Enough of each that pages and allocator do not matter.
CONNECTIONS = 3000
CHANNELS_A_CONNECTION = 100
CHANNELS = 20_000
QUEUES = 20_000
BINDINGS = 50_000
CONSUMERS = 20_000
UNSETTLED = 500_000
UNSETTLED_BODY_BYTES = 16

BIND_OK, CONSUME_OK = (50, 21), (60, 21)


def each(broker, count, make):
    """What one of the things costs; `make` gives whatever keeps them alive."""
    before = broker.settled_bytes()
    kept = make()
    after = broker.settled_bytes()
    for one in kept or ():
        one.close()
    return {"bytes": (after - before) / count, "count": count}


def connection(broker):
    def make():
        owner, members = loads.connections(broker, CONNECTIONS)
        make.members = members
        return [owner]
    figures = each(broker, CONNECTIONS, make)
    crowd.close_all(make.members)
    return figures


def channel(broker):
    clients = [Client(broker.address) for _ in range(CHANNELS // CHANNELS_A_CONNECTION)]

    def make():
        for client in clients:
            loads.pipelined(client, (frames.channel_open(n + 2) for n in range(CHANNELS_A_CONNECTION)), frames.CHANNEL_OPEN_OK)
        return clients
    return each(broker, CHANNELS, make)


def queue(flags):
    def measure(broker):
        client = Client(broker.address)
        client.declare("bench.first")

        def make():
            loads.pipelined(client, (frames.queue_declare("bench.queue.%06d" % n, flags) for n in range(QUEUES)),
                            frames.QUEUE_DECLARE_OK)
            return [client]
        return each(broker, QUEUES, make)
    return measure


def binding(exchange, form):
    def measure(broker):
        client = Client(broker.address)
        client.declare("bench.bound")

        def make():
            loads.pipelined(client, (loads.queue_bind("bench.bound", exchange, form % n) for n in range(BINDINGS)), BIND_OK)
            return [client]
        return each(broker, BINDINGS, make)
    return measure


def consumer(broker):
    clients = [Client(broker.address) for _ in range(CONSUMERS // CHANNELS_A_CONNECTION)]
    names = ["bench.consumed.%d" % n for n in range(CHANNELS_A_CONNECTION)]
    for name in names:
        clients[0].declare(name)

    def make():
        for client in clients:
            loads.pipelined(client, (frames.basic_consume(name, "consumer.%d" % n) for n, name in enumerate(names)), CONSUME_OK)
        return clients
    return each(broker, CONSUMERS, make)


def unsettled(broker):
    """Small transient messages that a consumer without prefetch has taken and not acknowledged; with their bodies."""
    client, holder = Client(broker.address), Client(broker.address)
    client.declare("bench.held")

    def make():
        holder.call(frames.basic_consume("bench.held", "c", 0), CONSUME_OK)
        message = frames.basic_publish("bench.held", bytes(UNSETTLED_BODY_BYTES))
        missing = UNSETTLED * frames.delivery_bytes("bench.held", "c", UNSETTLED_BODY_BYTES)
        buffer = bytearray(loads.READ_BYTES)
        for _ in range(UNSETTLED // 500):
            client.socket.sendall(message * 500)
            # A window at a time, so that nothing waits elsewhere.
            due = missing - 500 * frames.delivery_bytes("bench.held", "c", UNSETTLED_BODY_BYTES)
            while missing > due:
                missing -= holder.socket.recv_into(buffer, min(len(buffer), missing - due))
        return [client]
    return each(broker, UNSETTLED, make)


THINGS = (
    ("connection", "idle connection with a channel", connection),
    ("channel", "idle channel", channel),
    ("queue", "idle durable queue", queue(frames.QUEUE_DURABLE)),
    ("exclusive", "idle exclusive transient queue", queue(4)),
    ("direct", "binding of a direct exchange", binding("amq.direct", "key.%06d")),
    ("topic", "binding of a topic exchange", binding("amq.topic", "key.*.%06d.#")),
    ("consumer", "idle consumer", consumer),
    ("unsettled", "unacknowledged message of 16 B", unsettled),
)


def run(options, starts, beside, result):
    lines, result["memory"] = [], {}
    for key, name, measure in THINGS:
        if options.only and key not in options.only:
            continue
        cells = []
        for start in starts:
            broker = start()
            try:
                figures = beside(lambda: measure(broker))
            finally:
                broker.stop()
            result["memory"].setdefault(key, {})[start.name] = figures
            cells.append("%.0f" % figures["bytes"])
        lines.append([name, "{:,}".format(figures["count"]).replace(",", " ")] + cells)
        print("%-34s %s" % (name, "   ".join("%s %s B" % (start.name, cell) for start, cell in zip(starts, cells))), flush=True)
    header = ["thing", "measured with", "bytes each"] + ["RabbitMQ 3.10.8" for _ in starts[1:]]
    return report.where(result) + "\n\n" + report.table(header, lines)
