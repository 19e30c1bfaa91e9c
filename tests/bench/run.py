#!/usr/bin/env python3
"""What HareMQ costs: the whole table of its budgets, one row a load, by one command.

In: a haremq binary (`--broker`), which is also the load generator. Out: a table; with `--write`, the results as JSON in
`tests/bench/results` and the tables in docs/performance.md. Each round of a row has a broker of its own on a new data folder,
and loops of fixed work (`calibration.py`) before and after it.

    python3 tests/bench/run.py --broker target/release/haremq                     # the table
    python3 tests/bench/run.py --broker target/release/haremq --control rabbitmq  # and Debian's RabbitMQ under the same loads
    python3 tests/bench/run.py --broker target/release/haremq --only fill drain   # these rows
    python3 tests/bench/run.py --broker target/release/haremq --scaling           # cost by numbers of queues, connections, ...
    python3 tests/bench/run.py --broker target/release/haremq --memory            # bytes of each thing
"""

import argparse
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import brokers  # noqa: E402
import calibration  # noqa: E402
import loads  # noqa: E402
import memory  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import scaling  # noqa: E402

# Readings of a noisy moment: where the loops before and after a round differ by more, the round says so.
UNSTEADY = 1.25


class Start:
    """Starts brokers of one kind."""

    def __init__(self, name, binary):
        self.name, self.binary = name, binary

    def __call__(self):
        return brokers.RabbitMQ() if self.name == "rabbitmq" else brokers.HareMQ(self.binary)


def beside(work):
    """A measurement, with the calibration around it."""
    before = calibration.calibrate()
    figures = work()
    after = calibration.calibrate()
    both = {key: (before[key] + after[key]) / 2 for key in before}
    ratio = after["copy_us_per_mib"] / before["copy_us_per_mib"], after["echo_us"] / before["echo_us"]
    return dict(figures, calibration=both, is_steady=all(1 / UNSTEADY < one < UNSTEADY for one in ratio))


def measure_table(options, starts):
    """The rounds of each row, by broker. Brokers take turns, so that a busy moment meets them all."""
    benches = {start.name: rows.Bench(loads.Perf(options.broker, options.seconds), start, options) for start in starts}
    measured = {}
    for row in rows.selected(options.only):
        source = rows.SHARED.get(row.key)
        of_row = measured[row.key] = measured.get(source, {})
        for _ in range(0 if of_row else options.rounds):
            for name, bench in benches.items():
                if name == "haremq" or row.of_control:
                    of_row.setdefault(name, []).append(beside(lambda: row.measure(bench)))
        print(line_of(row, of_row), flush=True)
    return measured


def line_of(row, of_row):
    value = statistics.median(report.values(of_row["haremq"], row.figure))
    verdict = "" if not row.budget() else ("met" if row.is_met(value) else "MISSED")
    line = "%-20s %-62s %10s %-7s budget %-8s %-7s" % (row.key, row.work, report.number(value), row.unit, row.budget(), verdict)
    for key in row.shows:
        line += " %s %s" % (key, report.number(statistics.median(report.values(of_row["haremq"], key))))
    if "rabbitmq" in of_row:
        line += " | RabbitMQ 3.10.8 %s" % report.number(statistics.median(report.values(of_row["rabbitmq"], row.figure)))
    at = report.calibration(of_row["haremq"])
    return line + " | copy %.1f, echo %.2f, sync %.0f us" % (at["copy_us_per_mib"], at["echo_us"], at["sync_us"])


LABELS = {"rate": "a second", "p99_us": "p99 µs", "lag_p50_us": "of it the client's own lateness p50", "lag_p99_us": "p99",
          "cpu_us": "CPU µs", "grown_mib": "with the cache", "listening_s": "until it listens", "messages": "messages"}


def table_text(result):
    """The table for the document."""
    has_control = any("rabbitmq" in of_row for of_row in result["rows"].values())
    header = ["load", "HareMQ", "budget", "", "LavinMQ 2.9.1", "RabbitMQ 4.3.6", "beside it", "copy, echo, sync"]
    if has_control:
        header.insert(6, "RabbitMQ 3.10.8 in this run")
    lines = []
    for row in rows.ROWS:
        of_row = result["rows"].get(row.key)
        if of_row is None:
            continue
        rounds = of_row["haremq"]
        value = statistics.median(report.values(rounds, row.figure))
        verdict = "" if not row.budget() else ("met" if row.is_met(value) else "**missed**")
        more = ", ".join("%s %s" % (LABELS[key], report.number(statistics.median(report.values(rounds, key))))
                         for key in row.shows if report.values(rounds, key))
        at = report.calibration(rounds)
        steady = "" if all(one["is_steady"] for one in rounds) else " (unsteady)"
        line = [row.work, "%s %s" % (report.middle(rounds, row.figure), row.unit), row.budget(), verdict, row.lavinmq, row.rabbitmq,
                more, "%.0f, %.2f, %.0f%s" % (at["copy_us_per_mib"], at["echo_us"], at["sync_us"], steady)]
        if has_control:
            control = of_row.get("rabbitmq")
            cell = ""
            if control:
                theirs = statistics.median(report.values(control, row.figure))
                cell = report.number(theirs)
                if min(theirs, value) > 0:
                    cell += ", %s times" % report.number(theirs / value if row.least is None else value / theirs)
            line.insert(6, cell)
        lines.append(line)
    numbers = result["numbers"]
    return "%s\nMedian of %d rounds, lowest and highest in brackets; %.0f s each, or %s messages. %s\n\n%s" % (
        report.where(result), numbers["rounds"], numbers["seconds"], report.number(numbers["messages"]),
        "Load average %.1f at the median." % statistics.median(
            one["calibration"]["load_average"] for of_row in result["rows"].values() for one in of_row["haremq"]),
        report.table(header, lines))


def judged(measured):
    """How many budgets are met and missed."""
    met = missed = 0
    for row in rows.ROWS:
        if row.key in measured and row.budget():
            value = statistics.median(report.values(measured[row.key]["haremq"], row.figure))
            met, missed = (met + 1, missed) if row.is_met(value) else (met, missed + 1)
    return met, missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=os.path.join(HERE, "..", "..", "target", "release", "haremq"))
    parser.add_argument("--control", choices=("rabbitmq",), help="measure this broker under the same loads")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows, or series of --scaling and --memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each throughput and latency run")
    parser.add_argument("--messages", type=int, default=500_000, help="of fill and drain")
    parser.add_argument("--queued", type=int, default=1_000_000, help="of the row of queued messages")
    parser.add_argument("--resident", type=int, default=1_000_000, help="of the row of the start after a kill")
    parser.add_argument("--connections", type=int, default=5000, help="idle ones")
    parser.add_argument("--declares", type=int, default=2000)
    parser.add_argument("--queues", type=int, default=20_000, help="idle ones")
    parser.add_argument("--scaling", action="store_true", help="cost by numbers of queues, connections, sizes, bindings, backlog")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="the longest backlog of --scaling")
    parser.add_argument("--memory", action="store_true", help="bytes of connections, channels, queues, bindings, consumers, messages")
    parser.add_argument("--write", action="store_true", help="keep the results, and write the tables into docs/performance.md")
    options = parser.parse_args()
    options.broker = os.path.abspath(options.broker)
    if options.control == "rabbitmq" and not brokers.RabbitMQ.is_installed():
        parser.error("there is no %s: apt-get install rabbitmq-server" % brokers.RABBITMQ_SERVER)
    starts = [Start("haremq", options.broker)] + ([Start(options.control, None)] if options.control else [])
    result = report.head()
    result["numbers"] = {key: getattr(options, key) for key in ("rounds", "seconds", "messages", "queued", "resident", "connections",
                                                                "declares", "queues", "backlog")}
    if options.scaling:
        kind, text = "scaling", scaling.run(options, starts[0], beside, result)
    elif options.memory:
        kind, text = "memory", memory.run(options, starts, beside, result)
    else:
        kind, result["rows"] = "table", measure_table(options, starts)
        text = table_text(result)
        print("%d budgets met, %d missed" % judged(result["rows"]))
    if options.write:
        print(report.save(result, kind))
        report.put(kind, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
