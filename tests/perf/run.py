#!/usr/bin/env python3
"""`haremq perf` as its users run it: each mode for a second against a broker, what it prints, and how it ends.

In: the path of a haremq binary (`--broker`), which is both the broker and the load generator, or of a load generator of
its own (`--perf`). Out: one `ok` or `not ok` line for each check, `1..N`, the line `N passed, M failed`, and an exit code.
How fast the broker is does not matter here.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 30
RUN_SECONDS_MAX = 60

RATE_ATTEMPTS_MAX = 4

# As `timeout` has it.
TIMEOUT_CODE = 124

TRAFFIC_KEYS = {
    "mode", "broker", "elapsed_seconds", "published", "avg_pub_rate", "consumed", "avg_consume_rate",
    "client_cpu_us_per_message",
}
BROKER_KEYS = {"broker_cpu_us_per_message", "broker_cpu_cores", "broker_rss_bytes", "broker_rss_max_bytes"}
CONFIRM_KEYS = {"confirmed", "avg_confirm_rate", "nacked"}
POINTS = ("min", "median", "p75", "p95", "p99", "p999", "max")


def percentiles(name):
    return {"%s_%s_ms" % (name, point) for point in POINTS} | {name + "_count"}


class Report:
    """Counts checks, and prints each as a line of TAP."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, name, holds, figures=""):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
        print("%s %d - %s%s" % ("ok" if holds else "not ok", self.passed + self.failed, name,
                                ": " + figures if figures else ""), flush=True)

    def end(self):
        print("1..%d" % (self.passed + self.failed))
        print("%d passed, %d failed" % (self.passed, self.failed), flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1


class Broker:
    """A broker of our own, on a free port and with a new data folder."""

    def __init__(self, binary):
        self.folder = tempfile.mkdtemp(prefix="haremq-perf-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log_path = os.path.join(self.folder, "broker.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--data-dir", os.path.join(self.folder, "data"),
                 "--amqp", "127.0.0.1:%d" % self.port, "--http", "none"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.pid = str(self.process.pid)
        self.uri = "amqp://guest:guest@127.0.0.1:%d/%%2f" % self.port
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError("the broker did not start")

    def stop(self):
        """Ends the broker; whether it had run until now and ends cleanly."""
        ended_early = self.process.poll() is not None
        if not ended_early:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return not ended_early and code == 0


class Perf:
    """The load generator and what is asked of it."""

    def __init__(self, binary, report):
        self.binary = binary
        self.report = report

    def run(self, words):
        environment = {name: value for name, value in os.environ.items() if name != "AMQP_URI"}
        command = [self.binary, "perf"] + words
        try:
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=RUN_SECONDS_MAX, env=environment, check=False)
        except subprocess.TimeoutExpired:
            told = "it did not end within %d s" % RUN_SECONDS_MAX
            return subprocess.CompletedProcess(command, TIMEOUT_CODE, "", told)

    def json(self, name, words, keys, code=0):
        """A run that prints an object with exactly these keys."""
        done = self.run(words + ["--json", "--quiet"])
        try:
            figures = json.loads(done.stdout)
        except ValueError:
            figures = {}
        missing, more = keys - figures.keys(), figures.keys() - keys
        told = "exit code %d" % done.returncode
        if missing or more:
            told += ", missing %s, unexpected %s" % (sorted(missing), sorted(more))
        if done.stderr:
            told += ", " + done.stderr.strip()
        self.report.check(name, done.returncode == code and not missing and not more, told)
        return figures

    def refused(self, name, words, code, says):
        """A run that ends with one line and that exit code."""
        done = self.run(words)
        lines = done.stderr.splitlines()
        holds = done.returncode == code and len(lines) == 1 and lines[0].startswith("haremq: ") and says in lines[0]
        self.report.check(name, holds, "exit code %d, %s" % (done.returncode, done.stderr.strip()))


def throughput(perf, broker, check):
    words = ["throughput", "--uri", broker.uri, "--time", "1"]
    figures = perf.json("throughput of small messages", words + ["--auto-ack", "--pid", broker.pid],
                        TRAFFIC_KEYS | BROKER_KEYS)
    check("messages went both ways and cost CPU and memory",
          all(figures.get(key, 0) > 0 for key in ("published", "consumed", "broker_cpu_us_per_message",
                                                  "broker_rss_bytes", "client_cpu_us_per_message")),
          "%(broker_cpu_us_per_message).3f us of the broker, %(client_cpu_us_per_message).3f us of the client" % figures)
    figures = perf.json("throughput of persistent messages with confirms and acknowledgements, verified",
                        words + ["-x", "2", "-y", "2", "--queues", "2", "-s", "1024", "-p", "-c", "200", "-P", "200",
                                 "-a", "10", "--verify"],
                        TRAFFIC_KEYS | CONFIRM_KEYS | {"verify"})
    check("nothing is wrong with them", figures.get("verify", {}).get("ok") is True, str(figures.get("verify")))
    # A busy machine may be late for a second; a rate that is not kept never comes right.
    for attempt in range(1, RATE_ATTEMPTS_MAX + 1):
        figures = perf.json("a fixed rate is kept, attempt %d" % attempt, words + ["--rate", "5000"], TRAFFIC_KEYS)
        if abs(figures.get("avg_pub_rate", 0) - 5000) < 250:
            break
        print("# attempt %d: %.0f a second" % (attempt, figures.get("avg_pub_rate", 0)), flush=True)
    check("5000 a second are asked for", abs(figures.get("avg_pub_rate", 0) - 5000) < 250,
          "%.0f a second" % figures.get("avg_pub_rate", 0))

    figures = perf.json("publishers wait for consumers", words + ["--auto-ack", "--lead", "1000"], TRAFFIC_KEYS)
    ahead = figures.get("published", 0) - figures.get("consumed", 0)
    check("and are never further ahead than they may", figures.get("consumed", 0) > 1000 and ahead <= 1000, "%d messages" % ahead)

    words = ["throughput", "--uri", broker.uri]
    for name, more, published, consumed in (
            ("a number of messages", ["-C", "30000", "--verify"], 30000, 30000),
            ("more publishers than queues", ["-C", "30000", "-x", "3", "-y", "2", "--queues", "2", "--verify"],
             30000, 30000),
            ("more queues than publishers", ["-C", "30001", "-x", "2", "-y", "3", "--queues", "12", "--verify"],
             30001, 30001),
            ("consumers that share a queue", ["-C", "30000", "-y", "4", "--prefetch", "10", "--verify"], 30000, 30000),
            ("fan-out to five queues", ["-C", "5000", "--exchange", "perf-fanout", "--exchange-type", "fanout",
                                        "--queues", "5", "-y", "2", "--verify"], 5000, 25000),
            ("bodies of many frames", ["-C", "20", "-s", "1000003", "--verify", "-P", "5"], 20, 20)):
        figures = perf.json(name, words + more, TRAFFIC_KEYS | {"verify"})
        check("%s: all are there" % name,
              (figures.get("published"), figures.get("consumed")) == (published, consumed),
              "%s published, %s consumed" % (figures.get("published"), figures.get("consumed")))
    perf.json("bodies of nothing", words + ["-C", "1000", "--size", "0"], TRAFFIC_KEYS)
    perf.json("a queue is filled and kept", words + ["-C", "20000", "-y", "0", "-c", "500", "--keep", "-u", "kept"],
              TRAFFIC_KEYS | CONFIRM_KEYS)
    figures = perf.json("messages that reach no queue come back",
                        words + ["-C", "100", "-c", "10", "-y", "0", "--mandatory", "--exchange", "amq.direct", "-k", "nowhere",
                                 "--predeclared", "-u", "kept"], TRAFFIC_KEYS | CONFIRM_KEYS | {"returned"})
    check("all of them", figures.get("returned") == 100, str(figures.get("returned")))
    figures = perf.json("the kept queue is drained", words + ["-C", "20000", "-x", "0", "-u", "kept"], TRAFFIC_KEYS)
    check("by as many messages", figures.get("consumed") == 20000, str(figures.get("consumed")))
    perf.refused("a queue that is not there", words + ["--predeclared", "-u", "kept"], 65, "404")
    figures = perf.json("a full queue refuses, and that is no loss",
                        words + ["-C", "5000", "-c", "100", "--prefetch", "1", "--verify", "--queue-args",
                                 '{"x-max-length": 10, "x-overflow": "reject-publish"}'],
                        TRAFFIC_KEYS | CONFIRM_KEYS | {"verify"})
    check("some were refused, none lost", figures.get("nacked", 0) > 0 and figures["verify"]["lost"] == 0,
          "%s refused, %s" % (figures.get("nacked"), figures.get("verify")))


def losses(perf, broker, check):
    words = ["throughput", "--uri", broker.uri, "-C", "50000", "--verify", "--drain", "0.5"]
    figures = perf.json("verification fails when a queue drops its head",
                        words + ["--prefetch", "1", "--queue-args", "x-max-length=10"], TRAFFIC_KEYS | {"verify"}, 65)
    verdict = figures.get("verify", {})
    check("and counts what was dropped",
          verdict.get("lost", 0) > 0 and verdict["lost"] + figures["consumed"] == 50000
          and verdict["ok"] is False and verdict["reordered"] == verdict["duplicated"] == 0, str(verdict))
    perf.refused("a loss is told in one line", words + ["--prefetch", "1", "--queue-args", "x-max-length=10", "--quiet"],
                 65, "verification failed")
    perf.json("verification fails when messages expire", words + ["--prefetch", "1", "--queue-args", "x-message-ttl=0"],
              TRAFFIC_KEYS | {"verify"}, 65)

    purged = []
    stop = threading.Event()

    def purge():
        """Another client that empties the queue again and again."""
        while not stop.is_set():
            time.sleep(0.05)
            done = perf.run(["throughput", "--uri", broker.uri, "-x", "0", "-C", "5", "-P", "5", "-a", "5",
                             "--predeclared", "--drain", "0.1", "--json", "--quiet", "-u", "robbed"])
            if done.returncode == 0:
                purged.append(json.loads(done.stdout)["consumed"])

    thief = threading.Thread(target=purge)
    thief.start()
    figures = perf.json("verification fails when somebody else takes messages",
                        ["throughput", "--uri", broker.uri, "--time", "1.5", "--rate", "2000", "--verify", "--drain", "0.5",
                         "-u", "robbed"], TRAFFIC_KEYS | {"verify"}, 65)
    stop.set()
    thief.join()
    verdict = figures.get("verify", {})
    check("by at least as many", 0 < sum(purged) <= verdict.get("lost", 0),
          "%d taken, %s" % (sum(purged), verdict))


def latency(perf, broker, check):
    lag = {"send_lag_median_ms", "send_lag_p99_ms", "send_lag_max_ms"}
    words = ["latency", "--uri", broker.uri, "--time", "1", "--pid", broker.pid]
    figures = perf.json("latency at 2000 messages a second", words, TRAFFIC_KEYS | BROKER_KEYS | lag | percentiles("latency"))
    ordered = [figures.get("latency_%s_ms" % point, -1) for point in POINTS]
    check("each message has a latency, and percentiles ascend",
          ordered[0] > 0 and ordered == sorted(ordered)
          and abs(figures.get("latency_count", 0) - figures.get("consumed", 0)) < 100 < figures.get("consumed", 0),
          "%s ms, %s of %s" % (ordered, figures.get("latency_count"), figures.get("consumed")))
    figures = perf.json("latency of confirms without consumers",
                        words + ["-y", "0", "-p", "-c", "1", "--rate", "100"],
                        TRAFFIC_KEYS | BROKER_KEYS | CONFIRM_KEYS | lag | percentiles("confirm_latency"))
    # How many there are depends on the disk, whose syncs take half a second when others use it. The last one may come when the
    # time is over.
    latencies, confirmed = figures.get("confirm_latency_count", 0), figures.get("confirmed", 0)
    check("each confirm has a latency", 0 < confirmed <= latencies <= confirmed + 1,
          "%s of %s, median %s ms" % (latencies, confirmed, figures.get("confirm_latency_median_ms")))
    # The broker is stopped for a while: what was to be sent meanwhile counts from when it was to be sent.
    pauser = threading.Timer(0.5, lambda: os.kill(int(broker.pid), signal.SIGSTOP))
    waker = threading.Timer(0.8, lambda: os.kill(int(broker.pid), signal.SIGCONT))
    pauser.start()
    waker.start()
    figures = perf.json("latency of a broker that pauses", words[:3] + ["--time", "1.5", "--rate", "1000"],
                        TRAFFIC_KEYS | lag | percentiles("latency"))
    check("a pause of 0.3 s is in a tenth of the latencies, not in one",
          figures.get("latency_max_ms", 0) > 200 and figures.get("latency_p95_ms", 0) > 100,
          "p95 %s ms, max %s ms" % (figures.get("latency_p95_ms"), figures.get("latency_max_ms")))


def churn(perf, broker, check):
    for thing in ("connection", "channel", "queue", "binding", "consumer"):
        keys = {"mode", "broker", "elapsed_seconds", "operations", "avg_rate", "client_cpu_us_per_" + thing,
                "broker_cpu_us_per_" + thing, "broker_cpu_cores", "broker_rss_bytes", "broker_rss_max_bytes"}
        figures = perf.json("churn of %ss" % thing,
                            ["churn", thing + "s", "--uri", broker.uri, "--clients", "2", "--time", "0.5", "--pid", broker.pid],
                            keys | percentiles("operation"))
        check("%ss came and went" % thing, figures.get("operations", 0) > 2, "%s times" % figures.get("operations"))
    figures = perf.json("a number of durable queues", ["churn", "queues", "--uri", broker.uri, "--count", "21", "--durable",
                                                        "--clients", "2"],
                        {"mode", "broker", "elapsed_seconds", "operations", "avg_rate", "client_cpu_us_per_queue"}
                        | percentiles("operation"))
    check("is that number", figures.get("operations") == 21, str(figures.get("operations")))


def compare(perf, broker, check):
    words = ["compare", broker.uri, broker.uri, "--pid-a", broker.pid, "--pid-b", broker.pid, "--rounds", "2", "--json",
             "--quiet"]
    for scenario, figure in ((["throughput", "--auto-ack", "--time", "0.5"], "broker_cpu_us_per_message"),
                             (["latency", "--time", "0.5"], "latency_median_ms"),
                             (["churn", "channels", "--time", "0.5"], "avg_rate")):
        done = perf.run(words + scenario)
        ratio = json.loads(done.stdout)["ratios"][figure] if done.returncode == 0 else {}
        holds = ratio and 0 < ratio["ratio_min"] <= ratio["ratio_median"] <= ratio["ratio_max"]
        check("comparison of a broker with itself, %s" % scenario[0], bool(holds),
              "exit code %d, %s: %s %s" % (done.returncode, figure, ratio, done.stderr.strip()))


def refusals(perf, broker, _check):
    one = ["throughput", "--time", "1", "--uri"]
    address = "127.0.0.1:%d" % broker.port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = "amqp://127.0.0.1:%d" % probe.getsockname()[1]
    perf.refused("an address that is none", one + ["http://x"], 64, "amqp://")
    perf.refused("a broker that is not there", one + [closed], 69, "cannot connect")
    perf.refused("a wrong password", one + ["amqp://guest:wrong@" + address], 77, "refuses the login")
    perf.refused("a vhost that is not there", one + ["amqp://%s/nowhere" % address], 65, "530")
    perf.refused("an exchange that is not there", one + [broker.uri, "--exchange", "nowhere"], 65, "404")
    perf.refused("a process that is not there", one + [broker.uri, "--pid", "4194305"], 66, "process id")
    perf.refused("a body too small to verify", one + [broker.uri, "--verify", "--size", "3"], 64, "--size")
    perf.refused("a lead over nobody", one + [broker.uri, "--lead", "10", "-y", "0"], 64, "--lead")
    perf.refused("an option that is not there", one + [broker.uri, "--colour"], 64, "--colour")
    perf.refused("a comparison without a scenario", ["compare", broker.uri, broker.uri], 64, "SCENARIO")
    perf.refused("a comparison with an absent broker",
                 ["compare", broker.uri, closed, "--rounds", "1", "--quiet", "throughput", "--time", "0.1"], 69, "broker B")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", required=True, help="path of a haremq binary")
    parser.add_argument("--perf", help="path of another one that makes the load")
    arguments = parser.parse_args()
    report = Report()
    perf = Perf(arguments.perf or arguments.broker, report)
    broker = Broker(arguments.broker)
    try:
        for part in (throughput, losses, latency, churn, compare, refusals):
            part(perf, broker, report.check)
    finally:
        clean = broker.stop()
    report.check("the broker ran until the end and ended cleanly", clean)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
