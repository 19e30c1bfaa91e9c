"""The rows of the table: what is done, what is allowed, and what the peers need.

In: a `Bench` with a binary and its numbers. Out: figures of each round. The peers' figures and the budgets are those that the
project set itself: LavinMQ 2.9.1 and RabbitMQ 4.3.6 with classic queues, which does not sync before a confirm, measured once
on a machine of two cores with one load generator; they are not measured here.
"""

import time

import crowd
import loads
from client import Client
import frames

MIB = 2 ** 20

PERSISTENT = ["--persistent", "--size", 1024]
ACKED = PERSISTENT + ["--confirms", 200, "--prefetch", 200]

# What fill and drain are, here and at the peers: 1 KiB, persistent, into one durable queue.
FILL = PERSISTENT + ["--confirms", 2000, "--consumers", 0]
DRAIN = ["--publishers", 0, "--prefetch", 200]

FAN_OUT = ["--exchange", "haremq-bench-fan", "--exchange-type", "fanout", "--queues", 10, "--consumers", 10, "--size", 1024,
           "--auto-ack", "--lead", 1000]

# Without acknowledgements nothing holds a publisher back but the consumers' pace: a queue that grows would be another load.
LEAD_MESSAGES = 20_000
LEAD = ["--lead", LEAD_MESSAGES]

LATENCY_RATE = 2000
TENTH = 0.1

# Seldom enough that a message finds the one before confirmed, whatever the disk.
LONE_RATE = 50


class Row:
    """One load. `figure` is what the budget is for, `most` or `least` what it allows; texts of the peers are as they were given."""

    def __init__(self, key, work, figure, unit, measure, most=None, least=None, lavinmq="", rabbitmq="", shows=(),
                 of_control=True):
        self.key, self.work, self.figure, self.unit, self.measure = key, work, figure, unit, measure
        self.most, self.least, self.lavinmq, self.rabbitmq, self.shows = most, least, lavinmq, rabbitmq, shows
        self.of_control = of_control

    def budget(self):
        if self.most is None and self.least is None:
            return ""
        return ("≤ %g" % self.most) if self.most is not None else ("≥ %g" % self.least)

    def is_met(self, value):
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)


class Bench:
    """What the rows need: the load generator, a new broker for each round, and how much of everything."""

    def __init__(self, perf, start, options):
        self.perf, self.start, self.options = perf, start, options
        # The maximal rate of small messages of each broker, for the row at a tenth of it.
        self.rate_max = {}

    def on(self, work):
        """Runs something on a broker of its own."""
        broker = self.start()
        try:
            return work(broker)
        finally:
            broker.stop()

    def throughput(self, words):
        return self.on(lambda broker: self.perf.throughput(broker, words))


def auto_ack_16(bench):
    figures = bench.throughput(["--size", 16, "--auto-ack"] + LEAD)
    rates = bench.rate_max.setdefault(bench.start.name, [])
    rates.append(min(figures["published_per_s"], figures["consumed_per_s"]))
    return figures


def fill(bench):
    return bench.on(lambda broker: bench.perf.counted(broker, FILL + ["--messages", bench.options.messages]))


def drain(bench):
    def work(broker):
        filled(bench, broker, bench.options.messages)
        return bench.perf.counted(broker, DRAIN + ["--messages", bench.options.messages])
    return bench.on(work)


def filled(bench, broker, messages):
    bench.perf.counted(broker, FILL + ["--messages", messages, "--keep"])


def latency(bench):
    return latency_at(bench, LATENCY_RATE)


def latency_at_a_tenth(bench):
    rates = bench.rate_max.get(bench.start.name)
    if not rates:
        auto_ack_16(bench)
        rates = bench.rate_max[bench.start.name]
    return latency_at(bench, int(max(rates) * TENTH))


def latency_at(bench, rate):
    def work(broker):
        run = bench.perf.run(broker, "latency", ["--rate", rate, "--auto-ack"])
        return {"p50_us": run["latency_median_ms"] * 1e3, "p99_us": run["latency_p99_ms"] * 1e3, "rate": rate,
                "lag_p50_us": run["send_lag_median_ms"] * 1e3, "lag_p99_us": run["send_lag_p99_ms"] * 1e3,
                "cpu_us": run["broker_cpu_us_per_message"]}
    return bench.on(work)


def lone_confirm(bench):
    def work(broker):
        run = bench.perf.run(broker, "latency", ["-y", 0, "-p", "-c", 1, "--rate", LONE_RATE])
        return {"p50_us": run["confirm_latency_median_ms"] * 1e3, "p99_us": run["confirm_latency_p99_ms"] * 1e3,
                "cpu_us": run["broker_cpu_us_per_message"]}
    return bench.on(work)


def churned_connections(bench):
    def work(broker):
        run = bench.perf.run(broker, "churn connections", ["--clients", 4])
        return {"cpu_us": run["broker_cpu_us_per_connection"], "client_cpu_us": run["client_cpu_us_per_connection"],
                "rate": run["avg_rate"]}
    return bench.on(work)


def idle_connections(bench):
    def work(broker):
        count = bench.options.connections
        Client(broker.address).close()
        before = broker.settled_bytes()
        owner, members = loads.connections(broker, count)
        idle = broker.settled_bytes()
        crowd.close_all(members)
        owner.close()
        return {"kib": (idle - before) / 1024 / count, "count": count}
    return bench.on(work)


def durable_declares(bench):
    return bench.on(lambda broker: loads.declares(broker, bench.options.declares))


def idle_queues(bench):
    def work(broker):
        count = bench.options.queues
        client = Client(broker.address)
        client.declare("bench.first")
        before = broker.settled_bytes()
        loads.pipelined(client, (frames.queue_declare("bench.idle.%06d" % n) for n in range(count)), frames.QUEUE_DECLARE_OK)
        idle = broker.settled_bytes()
        client.close()
        return {"bytes": (idle - before) / count, "count": count}
    return bench.on(work)


def queued(bench):
    def work(broker):
        client = Client(broker.address)
        client.declare("bench.first")
        before = broker.settled_bytes()
        filled(bench, broker, bench.options.queued)
        after = broker.settled_bytes()
        client.close()
        cache = 32 * MIB if broker.name == "haremq" else 0
        return {"mib": max(after - before - cache, 0) / MIB, "grown_mib": (after - before) / MIB, "messages": bench.options.queued}
    return bench.on(work)


def start_after_kill(bench):
    def work(broker):
        filled(bench, broker, bench.options.resident)
        broker.kill()
        began = time.monotonic()
        broker.start()
        ready = time.monotonic() - began
        return {"seconds": loads.first_delivery_seconds(broker, "haremq-perf", began), "listening_s": ready,
                "messages": bench.options.resident}
    return bench.on(work)


ROWS = (
    Row("auto_ack_16", "16 B, transient, auto-ack, end to end", "cpu_us", "µs CPU", auto_ack_16, most=0.5,
        lavinmq="1.1 µs, 890 k/s", rabbitmq="16 µs, 75 k/s", shows=("rate",)),
    Row("auto_ack_1024", "1 KiB, transient, auto-ack", "cpu_us", "µs CPU",
        lambda bench: bench.throughput(["--size", 1024, "--auto-ack", "--lead", LEAD_MESSAGES // 4]), most=1.2,
        lavinmq="3.4 µs, 285 k/s", rabbitmq="27 µs, 50 k/s", shows=("rate",)),
    Row("confirmed_1024", "1 KiB persistent, confirm window 200, prefetch 200, acked", "cpu_us", "µs CPU",
        lambda bench: bench.throughput(ACKED), most=2.5,
        lavinmq="7.5 µs, 58 k/s", rabbitmq="52 µs, 29 k/s", shows=("rate",)),
    Row("confirmed_1024_ten", "the same, 10 queues and 10 pairs", "cpu_us", "µs CPU",
        lambda bench: bench.throughput(ACKED + ["--queues", 10, "-x", 10, "-y", 10]), most=2.2,
        lavinmq="5.4 µs, 146 k/s confirmed", rabbitmq="64 µs, 26 k/s", shows=("rate",)),
    Row("fill", "fill, 1 KiB persistent, confirm window 2000", "cpu_us", "µs CPU", fill, most=1.5,
        lavinmq="3.6 to 6 µs, 160 k/s", rabbitmq="33 µs, 42 k/s", shows=("rate",)),
    Row("drain", "drain of that, prefetch 200", "cpu_us", "µs CPU", drain, most=0.9,
        lavinmq="2.4 µs", rabbitmq="25 µs, 46 k/s", shows=("rate",)),
    Row("fan_out_10", "fan-out to 10 queues, 1 KiB, per delivery", "cpu_us", "µs CPU",
        lambda bench: bench.throughput(FAN_OUT), most=0.9, lavinmq="2.5 µs", rabbitmq="30 µs", shows=("rate",)),
    Row("latency", "publish to deliver at 2000/s, p50", "p50_us", "µs", latency, most=60,
        lavinmq="80 µs", rabbitmq="189 µs", shows=("p99_us", "lag_p50_us", "lag_p99_us", "cpu_us")),
    Row("latency_tenth", "publish to deliver at a tenth of the broker's maximal rate, p50", "p50_us", "µs", latency_at_a_tenth,
        shows=("p99_us", "lag_p50_us", "lag_p99_us", "rate", "cpu_us")),
    Row("lone_confirm", "lone persistent publish to confirm, p50", "p50_us", "µs", lone_confirm, most=350,
        lavinmq="563 µs", rabbitmq="1074 µs (unsynced)", shows=("p99_us", "cpu_us")),
    Row("connection", "open and close a connection", "cpu_us", "µs CPU", churned_connections, most=60,
        lavinmq="76 µs", rabbitmq="2723 µs", shows=("rate",)),
    Row("idle_connection", "idle connection with a channel", "kib", "KiB", idle_connections, most=12,
        lavinmq="38 KB", rabbitmq="76 KB"),
    Row("declare", "durable declare and bind, one client, a second", "rate", "/s", durable_declares, least=3000,
        lavinmq="322/s", rabbitmq="267/s"),
    Row("declare_cpu", "the same, CPU", "cpu_us", "µs CPU", durable_declares, most=250,
        lavinmq="2.6 ms", rabbitmq="2.7 ms"),
    Row("idle_queue", "idle durable queue", "bytes", "B", idle_queues, most=2048,
        lavinmq="2.7 KB", rabbitmq="6 KB"),
    Row("queued", "a million queued messages of 1 KiB, beside the cache", "mib", "MiB", queued, most=16,
        lavinmq="30 MB", rabbitmq="200 MB", shows=("grown_mib",)),
    Row("start", "start after kill -9, to the first delivery", "seconds", "s", start_after_kill, most=1.0,
        rabbitmq="reads every body", shows=("listening_s", "messages"), of_control=False),
)

# Rows that are two sides of one measurement.
SHARED = {"declare_cpu": "declare"}


def selected(only):
    keys = [row.key for row in ROWS]
    for key in only or ():
        if key not in keys:
            raise SystemExit("no row %s; there are: %s" % (key, " ".join(keys)))
    return [row for row in ROWS if not only or row.key in only]
