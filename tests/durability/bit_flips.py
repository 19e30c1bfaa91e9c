"""One bit of a stopped folder turned: the broker starts or says why not, serves nothing wrong, and tells what is lost.

In: the program. Out: the part `bit-flips`.
"""

import os
import shutil

import folder
import stock
from suite import complaints, no_panic, part

COPIES, COPIES_LONG = 10, 100


@part("bit-flips", "after one flipped bit in any file no wrong body is delivered, and what is lost is told")
def flips(context, options, say):
    copies = options.rounds_of(COPIES, COPIES_LONG)
    chance = options.chance("bit flips")
    expected = stock.make(context)
    sound = context.path("sound")
    kinds = folder.by_kind(sound)
    assert {"journal", "segment", "meta", "format", "blob"} <= set(kinds), "the folder has only %s" % sorted(kinds)
    counts = {"unharmed": 0, "refused": 0, "lost": 0}
    for number in range(1, copies + 1):
        kind = sorted(kinds)[number % len(kinds)]
        path = chance.choice(kinds[kind])
        at, bit = chance.randrange(os.path.getsize(path)), chance.randrange(8)
        name = os.path.relpath(path, sound)
        data = folder.copy(sound, context.path("copy"))
        folder.flip_bit(os.path.join(data, name), at, bit)
        try:
            outcome = one_copy(context, data, expected)
        except Exception as error:
            raise AssertionError("--seed %d, copy %d, bit %d of octet %d of %s: %s: %s" % (
                options.seed, number, bit, at, name, type(error).__name__, error)) from error
        counts[outcome] += 1
        shutil.rmtree(data)
    say("%d copies: %s" % (copies, ", ".join("%d %s" % (count, what) for what, count in counts.items())))


def one_copy(context, data, expected):
    """Starts a broker on the copy, takes all that it has, and looks for the report of what did not come."""
    broker = stock.start_or_refusal(context, data)
    if broker is None:
        return "refused"
    missing, surplus = stock.serve(broker, expected)
    no_panic(broker)
    told = complaints(broker.log)
    broker.stop()
    no_panic(broker)
    if missing or surplus:
        assert told, "%d messages are missing, %d are back, and the log says nothing:\n%s" % (
            missing, surplus, broker.log)
        return "lost"
    return "unharmed"
