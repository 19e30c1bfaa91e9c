"""How the cost of a message changes with the number of queues, connections, bindings, with size, fan-out and backlog.

In: a broker for each point. Out: a table for each series. Rates depend on the machine and the client beside it; CPU a message is what
is compared.
"""

import statistics
import subprocess
import threading
import time

import loads
import report
import rows
from client import Client

FOUR = ["-x", 4, "-y", 4]
CONFIRMED = FOUR + ["--persistent", "--size", 1024, "--confirms", 1000, "--prefetch", 1000]
LEAD = ["--lead", rows.LEAD_MESSAGES]

QUEUES = (1, 10, 100, 1000)
PAIRS = (1, 10, 100, 500, 2500)
IDLE = (0, 1000, 5000)
SIZES = (16, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
FAN_OUTS = (1, 10, 100, 1000)
BINDINGS = (1, 100, 10_000, 100_000)
BACKLOGS = (0, 10_000, 100_000, 1_000_000, 10_000_000)

# More keys than a connection remembers routes for.
KEYS = 5000
ROUTED_MESSAGES = 1_000_000

DRAINED_MESSAGES = 200_000

# Octets of all messages that may be on their way, so that large ones do not fill the memory.
LEAD_BYTES = 64 << 20


def throughput(bench, words):
    return bench.on(lambda broker: bench.perf.throughput(broker, words))


def by_queues(bench, queues):
    return throughput(bench, ["--size", 16, "--auto-ack", "--queues", queues] + FOUR + LEAD)


def by_queues_confirmed(bench, queues):
    return throughput(bench, CONFIRMED + ["--queues", queues])


def by_pairs(bench, pairs):
    """Each pair with a queue of its own, all together at the same rate."""
    return throughput(bench, ["-x", pairs, "-y", pairs, "--queues", pairs, "--size", 16, "--auto-ack", "--rate", 50_000])


def by_pairs_busy(bench, pairs):
    return throughput(bench, ["-x", pairs, "-y", pairs, "--queues", pairs, "--size", 1024, "--confirms", 50, "--auto-ack"])


def by_idle(bench, idle):
    def work(broker):
        owner, members = loads.connections(broker, idle) if idle else (None, [])
        figures = bench.perf.throughput(broker, ["--size", 16, "--auto-ack"] + LEAD)
        for member in members:
            member.socket.close()
        if owner:
            owner.socket.close()
        return figures
    return bench.on(work)


def by_size(bench, size):
    lead = max(min(rows.LEAD_MESSAGES, LEAD_BYTES // size), 16)
    return throughput(bench, ["--size", size, "--auto-ack", "--lead", lead])


def by_fan_out(bench, queues):
    return throughput(bench, ["--exchange", "bench.fan", "--exchange-type", "fanout", "--queues", queues, "-y", min(queues, 10),
                              "--size", 16, "--auto-ack", "--lead", max(rows.LEAD_MESSAGES // queues, 100)])


def by_bindings(exchange, form, keys):
    """Messages to the one queue that all bindings lead to; the routing keys change, so that no route is remembered."""
    def measure(bench, bindings):
        def work(broker):
            client = Client(broker.address)
            client.declare(loads.DESTINATION)
            loads.pipelined(client, (loads.queue_bind(loads.DESTINATION, exchange, form % n) for n in range(bindings)), (50, 21))
            client.close()
            used = [keys % (n % bindings) for n in range(KEYS)]
            return loads.routed(broker, exchange, used, ROUTED_MESSAGES)
        return bench.on(work)
    return measure


def by_backlog(bench, backlog):
    """Confirmed publishes behind a backlog, and then taking messages from its front."""
    def work(broker):
        if backlog:
            rows.filled(bench, broker, backlog)
        publish = bench.perf.counted(broker, rows.PERSISTENT + ["--confirms", 200, "-y", 0, "--messages", DRAINED_MESSAGES, "--keep"])
        drained = bench.perf.counted(broker, rows.DRAIN + ["--messages", DRAINED_MESSAGES, "--keep"])
        return {"cpu_us": publish["cpu_us"], "rate": publish["rate"], "drain_cpu_us": drained["cpu_us"],
                "drain_rate": drained["rate"], "private_mib": broker.private_bytes() / rows.MIB}
    return bench.on(work)


def futexes(pid, seconds):
    """Calls a second of the kernel's wait and wake, which a lock makes when it is contended; None without perf."""
    try:
        done = subprocess.run(["perf", "stat", "-x", ",", "-e", "syscalls:sys_enter_futex", "-p", str(pid), "sleep", str(seconds)],
                              capture_output=True, text=True, check=False)
        return int(done.stderr.split(",")[0]) / seconds
    except (OSError, ValueError):
        return None


def by_busy_pairs(bench, pairs):
    """Pairs with a queue of their own each, as fast as it goes, with calls of futex counted meanwhile."""
    def work(broker):
        found = {}

        def count():
            time.sleep(bench.perf.warmup + 1)
            found["futexes_per_s"] = futexes(broker.pid, max(bench.perf.seconds - 2, 1))
        counting = threading.Thread(target=count)
        counting.start()
        figures = bench.perf.throughput(broker, ["-x", pairs, "-y", pairs, "--queues", pairs, "--size", 16, "--auto-ack",
                                                 "--threads", 1] + LEAD)
        counting.join()
        if found["futexes_per_s"] is not None:
            figures["futexes_per_1000"] = found["futexes_per_s"] / figures["rate"] * 1000
        return figures
    return bench.on(work)


SERIES = (
    ("queues", "queues, 16 B auto-ack, 4 publishers and 4 consumers", QUEUES, by_queues),
    ("queues_confirmed", "queues, 1 KiB persistent, confirm window 1000, acked, 4 publishers and 4 consumers", QUEUES,
     by_queues_confirmed),
    ("pairs", "pairs of connections with a queue each, 16 B auto-ack, 50 000 a second of all together", PAIRS, by_pairs),
    ("pairs_busy", "pairs of connections with a queue each, 1 KiB, confirm window 50 each, auto-ack", PAIRS, by_pairs_busy),
    ("idle", "idle connections beside one busy pair, 16 B auto-ack", IDLE, by_idle),
    ("size", "bytes of a body, auto-ack", SIZES, by_size),
    ("fan_out", "queues of a fan-out, 16 B auto-ack, per delivery", FAN_OUTS, by_fan_out),
    ("direct", "bindings of a direct exchange, 5000 routing keys in turn", BINDINGS,
     by_bindings("amq.direct", "key.%06d", "key.%06d")),
    ("topic", "bindings of a topic exchange with a `*` and a `#`, 5000 routing keys in turn", BINDINGS,
     by_bindings("amq.topic", "stock.*.s%06d.#", "stock.eu.s%06d.paid.now")),
    ("backlog", "messages in the queue before, 1 KiB persistent: publish with a confirm window of 200, then drain", BACKLOGS,
     by_backlog),
    ("two_cores", "busy pairs with a queue each, 16 B auto-ack", (1, 2, 4), by_busy_pairs),
)

LABELS = (
    ("cpu_us", "broker CPU a message, µs"), ("rate", "messages a second"), ("drain_cpu_us", "CPU of a drained one, µs"),
    ("drain_rate", "drained a second"), ("cores", "broker's cores"), ("client_cpu_us", "client CPU a message, µs"),
    ("rss_max_mib", "memory at most, MiB"), ("private_mib", "private memory at the end, MiB"),
    ("futexes_per_1000", "futex calls in 1000 messages"),
)


def run(options, start, beside, result):
    bench = rows.Bench(loads.Perf(options.broker, options.seconds), start, options)
    result["scaling"], texts = {}, [report.where(result)]
    for key, name, points, measure in SERIES:
        if options.only and key not in options.only:
            continue
        series = result["scaling"][key] = {}
        print("-- %s" % name, flush=True)
        for point in points:
            if key == "backlog" and point > options.backlog:
                continue
            rounds = series[str(point)] = [beside(lambda: measure(bench, point)) for _ in range(options.rounds)]
            print("%10d  %s" % (point, "  ".join("%s %s" % (label, report.middle(rounds, figure))
                                                  for figure, label in LABELS if report.values(rounds, figure))), flush=True)
        texts.append(text(name, series))
    return "\n\n".join(texts)


def text(name, series):
    """A table of a series: one line a point, a column for each figure that it has."""
    first = next(iter(series.values()))
    shown = [(figure, label) for figure, label in LABELS if report.values(first, figure)]
    lines = []
    for point, rounds in series.items():
        medians = [report.number(statistics.median(report.values(rounds, figure))) if report.values(rounds, figure) else ""
                   for figure, _ in shown]
        lines.append(["{:,}".format(int(point)).replace(",", " ")] + medians)
    return "**By %s**\n\n%s" % (name, report.table([name.split(",")[0]] + [label for _, label in shown], lines))
