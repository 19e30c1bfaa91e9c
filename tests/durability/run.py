#!/usr/bin/env python3
"""Durability of HareMQ: what a broker still has after kill -9, power loss, a full disk and flipped bits.

In: the path of the broker's program. Out: one line a test (`ok` or `not ok`, in the manner of TAP), what was measured,
and a closing line `N passed, M failed`; the exit code is 1 if a test failed. Tests run one after another, each with
folders and brokers of its own below TMPDIR. A test that the machine cannot run is skipped and says why.

    python3 tests/durability/run.py --broker target/release/haremq [--only NAME...] [--rounds N] [--seed N] [--long]
"""

import argparse
import importlib
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "system")]
sys.dont_write_bytecode = True

from harness import Context, Skip  # noqa: E402
from suite import PARTS, Options, chosen  # noqa: E402

MODULES = ("check_ledger", "check_ledger_random", "kills", "restart", "large", "backlog", "full_disk", "power_loss", "doctor",
           "bit_flips")


def say(text):
    """A line that is not a result: what was measured, how far a loop is."""
    print("# " + text, flush=True)


def carry_out(program, options, body):
    """Runs one test: `ok`, `skip` or `not ok`, and the words to print with it."""
    context = Context(program)
    try:
        body(context, options, say)
    except Skip as skip:
        return "skip", str(skip)
    except Exception:  # whatever a test raises is its failure
        return "not ok", traceback.format_exc() + context.failure_log()
    finally:
        context.close()
    return "ok", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", required=True, metavar="PATH", help="the program to test")
    parser.add_argument("--only", nargs="+", default=[], choices=PARTS, metavar="NAME",
                        help="run these parts: " + " ".join(PARTS))
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds, or damaged copies, of each loop")
    parser.add_argument("--messages", type=int, metavar="N", help="messages of each backlog")
    parser.add_argument("--queues", type=int, metavar="N", help="queues of the backlog that has many")
    parser.add_argument("--seed", type=int, metavar="N", help="the seed of a run that is to be repeated")
    parser.add_argument("--long", action="store_true", help="ten times the rounds and a hundred times the messages")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.broker)
    if not os.access(program, os.X_OK):
        parser.error("%s is not a program; cargo build makes target/debug/haremq" % program)
    for name in MODULES:
        importlib.import_module(name)
    options = Options(arguments)
    tests = chosen(arguments.only)
    print("1..%d" % len(tests))
    say("--seed %d repeats the random choices of this run" % options.seed)
    counts = {"ok": 0, "skip": 0, "not ok": 0}
    for number, (name, title, body) in enumerate(tests, 1):
        began = time.monotonic()
        outcome, words = carry_out(program, options, body)
        counts[outcome] += 1
        word = "not ok" if outcome == "not ok" else "ok"
        tail = " # SKIP " + words if outcome == "skip" else " (%.1f s)" % (time.monotonic() - began)
        print("%s %d - %s: %s%s" % (word, number, name, title, tail), flush=True)
        if outcome == "not ok":
            print("".join("    # %s\n" % line for line in words.splitlines()), end="", flush=True)
    print("%d passed, %d failed" % (counts["ok"], counts["not ok"]))
    return 1 if counts["not ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
