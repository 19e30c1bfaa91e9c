"""What the Python suites share: the list of checks, their output, names of their own, and waiting.

In: functions marked with `check`. Out: one `ok`, `not ok` or `skip` line each, and the plan line.
It knows no AMQP client.
"""

import os
import subprocess
import sys
import time
import traceback
import urllib.parse

URI = os.environ["AMQP_URI"]
RESTART_COMMAND = os.environ.get("BROKER_RESTART_CMD")
PARTS = urllib.parse.urlsplit(URI)
WAIT_SECONDS_MAX = 10

_checks = []


class Skip(Exception):
    """Raised by a check that cannot run here; its text is the reason."""


def check(function):
    _checks.append(function)
    return function


def name(suffix):
    """A queue's or exchange's name that no other run uses."""
    return "interop.%d.%s" % (os.getpid(), suffix)


def same(got, wanted):
    if got != wanted:
        raise AssertionError("got %r, wanted %r" % (got, wanted))


def eventually(probe, wanted, seconds=WAIT_SECONDS_MAX):
    """Waits until `probe()` gives `wanted`."""
    deadline = time.monotonic() + seconds
    while True:
        got = probe()
        if got == wanted:
            return
        if time.monotonic() > deadline:
            raise AssertionError("after %s s got %r, wanted %r" % (seconds, got, wanted))
        time.sleep(0.02)


def restart_broker():
    if not RESTART_COMMAND:
        raise Skip("no BROKER_RESTART_CMD, the broker is not ours to kill")
    subprocess.run(RESTART_COMMAND, shell=True, check=True, timeout=60)


def outcome(function):
    """Runs one check and prints its line in one write, as a thread may print beside it; tells whether it passed or was skipped."""
    label = function.__name__
    try:
        function()
    except Skip as reason:
        print("skip %s: %s\n" % (label, reason), end="", flush=True)
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split())
        print("not ok %s: %s: %s\n" % (label, type(error).__name__, text), end="", flush=True)
        return False
    else:
        print("ok %s\n" % label, end="", flush=True)
    return True


def run_all():
    passed = [outcome(function) for function in _checks]
    print("1..%d" % len(passed), flush=True)
    sys.exit(0 if all(passed) else 1)
