#!/usr/bin/env python3
"""What a confirmed persistent message costs the broker, by the number of queues and by what is done with it.

In: the path of a haremq binary (`--broker`), which is also the load generator. Out: a table; broker CPU time a message
from /proc, and rates, which depend on the machine. Each row starts a broker of its own.

    python3 tests/bench/durable.py --broker target/release/haremq [--rounds 3] [--seconds 5]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "connections"))

from process import Started  # noqa: E402

PERSISTENT = ["--persistent", "--size", "1024"]


def pairs(queues, publishers):
    """Publishers and consumers over queues, each message confirmed and acknowledged."""
    return PERSISTENT + ["--confirms", "200", "--prefetch", "200", "--queues", str(queues), "--producers", str(publishers),
                         "--consumers", str(max(publishers, queues))]


ROWS = (
    ("1 KiB, confirmed and acked, 1 queue", pairs(1, 1)),
    ("the same, 10 queues, 10 publishers", pairs(10, 10)),
    ("the same, 10 queues, 1 publisher", pairs(10, 1)),
    ("the same, 100 queues, 1 publisher", pairs(100, 1)),
    ("the same, 1000 queues, 1 publisher", pairs(1000, 1)),
    ("fill, confirm window 2000", PERSISTENT + ["--confirms", "2000", "--consumers", "0"]),
    ("16 B, confirmed and acked", ["--persistent", "--size", "16", "--confirms", "2000", "--prefetch", "200"]),
    ("64 KiB, confirmed and acked", ["--persistent", "--size", "65536", "--confirms", "50", "--prefetch", "50"]),
)


def measure(binary, arguments, seconds):
    broker = Started(binary)
    try:
        uri = "amqp://guest:guest@127.0.0.1:%d/%%2f" % broker.address[1]
        command = [binary, "perf", "throughput", "--uri", uri, "--pid", str(broker.pid), "--json", "--warmup", "1",
                   "--time", str(seconds)] + arguments
        output = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 10 + 120, check=False)
        if output.returncode != 0:
            raise RuntimeError("%s: %s" % (" ".join(command), output.stderr[-2000:]))
        return json.loads(output.stdout)
    finally:
        broker.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=os.path.join(HERE, "..", "..", "target", "release", "haremq"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    binary = os.path.abspath(options.broker)
    print("%-42s %12s %12s %12s %9s" % ("", "us CPU/msg", "published/s", "consumed/s", "RSS MiB"))
    for name, arguments in ROWS:
        runs = [measure(binary, arguments, options.seconds) for _ in range(options.rounds)]

        def median(key, of=runs):
            return statistics.median(run.get(key) or 0 for run in of)

        print("%-42s %12.2f %12.0f %12.0f %9.1f" % (
            name, median("broker_cpu_us_per_message"), median("avg_pub_rate"), median("avg_consume_rate"),
            median("broker_rss_max_bytes") / 2 ** 20), flush=True)


if __name__ == "__main__":
    main()
