"""`haremq doctor`: what it says of a sound folder, of one in use, and of a damaged one, and what its repair does.

In: the program. Out: the part `doctor`. Only exit codes, names and that something is said are asked for, not wordings.
"""

import os

import folder
import stock
from harness import contains, equal
from suite import no_panic, part

DAMAGED_COPIES, DAMAGED_COPIES_LONG = 6, 40
FLIPS_MAX = 5

# Octets of a body by which it is looked for, and how many messages are.
PIECE_BYTES = 200
ATTEMPTS_MAX = 100


def doctor(context, data, *more):
    """Runs it: exit code, and what it says on both streams."""
    code, out, errors = context.run("doctor", "--data-dir", data, *more)
    assert "panicked" not in errors, errors
    return code, out + errors


def snapshot(data):
    """Names, sizes and times of all files, to see that nothing was touched. The lock is not a matter of content."""
    return {name: (os.path.getsize(path), os.stat(path).st_mtime_ns)
            for name, path in folder.files(data).items() if name != "haremq.lock"}


@part("doctor", "a sound folder is described and exits 0, one in use is refused, one that is not there is named")
def sound(context, _options, _say):
    expected = stock.make(context)
    before = snapshot(context.path("sound"))
    code, text = doctor(context, "sound")
    equal(code, 0, "exit code of a sound folder, with\n" + text)
    for name, letters in expected.items():
        lines = [line for line in text.splitlines() if name in line and str(len(letters)) in line]
        assert lines, "no line tells of %d messages in %s:\n%s" % (len(letters), name, text)
    equal(snapshot(context.path("sound")), before, "the folder after the look")
    broker = context.broker(data="sound")
    code, text = doctor(context, "sound")
    assert code != 0, "a folder in use is not refused:\n" + text
    contains(text, "in use", "refusal")
    equal(broker.connect().channel().declare("small", passive=True).messages, len(expected["small"]), "messages")
    missing, surplus = stock.serve(broker, expected)
    equal((missing, surplus), (0, 0), "missing and surplus messages beside the doctor")
    code, text = doctor(context, "nowhere")
    assert code != 0 and "nowhere" in text, "exit %d: %s" % (code, text)
    assert not os.path.exists(context.path("nowhere")), "the doctor makes a folder"


def live_place(data, expected, chance):
    """A random place inside the body of a message that is still there: path, offset, bit, and how many messages the damage
    may cost at most."""
    kinds = folder.by_kind(data)
    for _ in range(ATTEMPTS_MAX):
        letter = chance.choice(expected[chance.choice(["blobs", "large", "small", "settled", "quorum", "late"])])
        # What was moved to a segment may stand in a spare file of the journal still, where damage is none.
        for kind in ("blob", "segment", "journal"):
            for path in kinds.get(kind, []):
                places = folder.places_of(path, letter.body[:PIECE_BYTES])
                if places:
                    # At the end of the journal it may look like a write that was cut off, with all that it wrote.
                    cost = stock.WINDOW if kind == "journal" else 1
                    return path, places[0] + chance.randrange(letter.size), chance.randrange(8), cost
    raise AssertionError("no message is found in the files of the folder: %s" % sorted(folder.files(data)))


@part("doctor", "damage is found and told, a repair sets it aside and keeps a copy, and the rest is served")
def damaged(context, options, say):
    copies = options.rounds_of(DAMAGED_COPIES, DAMAGED_COPIES_LONG)
    chance = options.chance("doctor")
    expected = stock.make(context)
    lost = 0
    for number in range(1, copies + 1):
        data = folder.copy(context.path("sound"), context.path("copy-%d" % number))
        flipped, most = [], 0
        for _ in range(chance.randint(1, FLIPS_MAX)):
            path, at, bit, cost = live_place(data, expected, chance)
            folder.flip_bit(path, at, bit)
            most += cost
            flipped.append("bit %d of octet %d of %s" % (bit, at, os.path.relpath(path, data)))
        try:
            lost += one_damaged(context, data, expected, most)
        except Exception as error:
            raise AssertionError("--seed %d, copy %d, %s: %s: %s" % (
                options.seed, number, ", ".join(flipped), type(error).__name__, error)) from error
    say("%d damaged copies, %d messages lost in them" % (copies, lost))


def one_damaged(context, data, expected, most):
    """Report, repair, a second look, and the broker; gives how many messages are lost, at most `most`."""
    before = snapshot(data)
    code, text = doctor(context, data)
    assert code != 0, "the damage is not found:\n" + text
    equal(snapshot(data), before, "the folder after a look without --repair")
    around = set(os.listdir(os.path.dirname(data))) | set(os.listdir(data))
    code, text = doctor(context, data, "--repair")
    equal(code, 0, "exit code of the repair, with\n" + text)
    kept = (set(os.listdir(os.path.dirname(data))) | set(os.listdir(data))) - around
    assert kept, "the repair keeps no copy of what it changes:\n" + text
    code, text = doctor(context, data)
    equal(code, 0, "exit code after the repair, with\n" + text)
    broker = context.broker(data=data)
    missing, surplus = stock.serve(broker, expected)
    no_panic(broker)
    equal(surplus, 0, "messages that are back")
    assert missing <= most, "%d messages are lost, at most %d were damaged" % (missing, most)
    broker.stop()
    for name in kept:
        for parent in os.path.dirname(data), data:
            folder.remove(os.path.join(parent, name))
    folder.remove(data)
    return missing
