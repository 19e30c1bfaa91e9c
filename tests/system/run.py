#!/usr/bin/env python3
"""System tests of HareMQ: the program as a process, from outside.

In: the path of the broker's program. Out: one line a test (`ok` or `not ok`, in the manner of TAP) and a closing
line `N passed, M failed`; the exit code is 1 if a test failed. Every test has a folder, ports and brokers of its own.

    python3 tests/system/run.py --broker target/debug/haremq [--only WORDS] [--jobs N]
"""

import argparse
import concurrent.futures
import importlib
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from harness import TESTS, Context, Skip  # noqa: E402


def carry_out(program, body):
    """Runs one test: `ok`, `skip` or `not ok`, and the words to print with it."""
    context = Context(program)
    try:
        body(context)
    except Skip as skip:
        return "skip", str(skip)
    except Exception:  # whatever a test raises is its failure
        return "not ok", traceback.format_exc() + context.failure_log()
    finally:
        context.close()
    return "ok", ""


def main():
    parser = argparse.ArgumentParser(description="System tests of HareMQ.")
    parser.add_argument("--broker", required=True, metavar="PATH", help="the program to test")
    parser.add_argument("--only", metavar="WORDS", default="", help="run the tests whose name has these words")
    parser.add_argument("--jobs", type=int, metavar="N", default=4, help="tests at a time [default: 4]")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.broker)
    if not os.access(program, os.X_OK):
        parser.error("%s is not a program; cargo build makes target/debug/haremq" % program)
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sorted(os.listdir(here)):
        if name.startswith("test_") and name.endswith(".py"):
            importlib.import_module(name[:-3])
    chosen = [(name, body) for name, body in TESTS if arguments.only in name]
    print("1..%d" % len(chosen), flush=True)
    began, counts = time.monotonic(), {"ok": 0, "skip": 0, "not ok": 0}
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        running = {}
        for name, body in chosen:
            running[pool.submit(carry_out, program, body)] = name
        for number, done in enumerate(concurrent.futures.as_completed(running), 1):
            outcome, words = done.result()
            counts[outcome] += 1
            word = "not ok" if outcome == "not ok" else "ok"
            tail = " # SKIP " + words if outcome == "skip" else ""
            print("%s %d - %s%s" % (word, number, running[done], tail), flush=True)
            if outcome == "not ok":
                print("".join("    # %s\n" % line for line in words.splitlines()), end="", flush=True)
    print("# %.0f s, %d skipped" % (time.monotonic() - began, counts["skip"]))
    print("%d passed, %d failed" % (counts["ok"], counts["not ok"]))
    return 1 if counts["not ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
