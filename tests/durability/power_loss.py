"""A power cut: what the system had not written to the device is gone, and every confirm holds all the same.

In: the program, an ext4 in a file behind a loop device. Out: the part `power-loss`. The broker is frozen, what the kernel
sent to the device lands, the file is copied, and the copy is mounted elsewhere: that is the disk as a power cut would have
left it, and the next broker starts on it. Pages that only the kernel's cache had are not in the copy.
"""

import collections
import os
import signal
import time

import folder
import traffic
from harness import Skip
from ledger import Ledger
from mounts import in_file, make_image
from suite import killed, no_panic, part

ROUNDS, ROUNDS_LONG = 2, 40
DISK_BYTES = 4 << 30
LOAD_SECONDS = (0.5, 3.0)

# For writes under way to reach the file behind the loop device.
LANDING_SECONDS = 0.4


@part("power-loss", "after a power cut under load every confirm holds, and transactions are whole")
def power_loss(context, options, say):
    rounds = options.rounds_of(ROUNDS, ROUNDS_LONG)
    chance = options.chance("power loss")
    # Settlements force no sync of their own, so that any that was sent in this run may be lost.
    ledger, numbers = Ledger(settlement_seconds=float("inf")), collections.Counter()
    images = [context.path("disk-%d.img" % number) for number in (0, 1)]
    make_image(images[0], DISK_BYTES)
    for number in range(1, rounds + 1):
        try:
            one_round(context, images, ledger, numbers, chance, number)
        except Skip:
            raise
        except Exception as error:
            raise AssertionError("--seed %d, round %d: %s: %s" % (
                options.seed, number, type(error).__name__, error)) from error
        images.reverse()
        if number % 10 == 0:
            say("%d rounds: %s" % (number, dict(ledger.counts)))
    with in_file(context.path("last"), images[0]) as disk:
        with started(context, disk) as broker:
            traffic.all_gone(broker, ledger)
    say(", ".join("%d %s" % (count, what) for what, count in sorted(ledger.counts.items())))
    assert ledger.counts["confirmed"] > 50 * rounds, "too little was confirmed to try anything"


class started:
    """A broker on a mounted disk, gone before the disk is."""

    def __init__(self, context, disk):
        self.broker = context.broker(data=os.path.join(disk, "data"))
        no_panic(self.broker)

    def __enter__(self):
        return self.broker

    def __exit__(self, *_):
        if self.broker.process.poll() is None:
            self.broker.kill()


def one_round(context, images, ledger, numbers, chance, number):
    """A look at what the power cut before left, load, and the next cut. The image that is current changes."""
    with in_file(context.path("round-%d" % number), images[0]) as disk:
        with started(context, disk) as broker:
            if number == 1:
                traffic.prepare(broker, ledger)
            traffic.look_into(broker, ledger, chance, share=0.5)
            load = traffic.Load(broker, ledger, numbers, chance)
            time.sleep(chance.uniform(*LOAD_SECONDS))
            at = time.monotonic()
            broker.signal(signal.SIGSTOP)
            time.sleep(LANDING_SECONDS)
            folder.copy_sparse(images[0], images[1])
            killed(broker)
            load.end(at)
