"""A backlog costs disk and not memory, is there again at once after kill -9, and leaves nothing behind.

In: the program. Out: the part `backlog`: memory after filling, counts and the first delivery after a restart, the size of
the data folder after draining. Times are printed and not judged, because machines differ.
"""

import shutil
import time

import folder
from bulk import BODY_BYTES, Drain, counts, declare, fill, names
from harness import equal, eventually
from suite import BACKLOG_BYTES_MAX, anonymous_bytes, eventually_at_most, killed, memory, mib, part

MESSAGES, MESSAGES_LONG = 100_000, 10_000_000
QUEUES, QUEUES_LONG = 1_000, 10_000

# A delivery that its consumer keeps costs an entry in its queue.
UNSETTLED_BYTES = 24

# Of the disk: what a message costs there, at most, and how much of the free space a test may take.
MESSAGE_DISK_BYTES = 1.3 * BODY_BYTES
FREE_SHARE_MAX = 0.6

FIRST_DELIVERY_SECONDS_MAX = 60.0
DRAINED_DISK_BYTES_MAX = 200_000_000
DRAINED_SEGMENTS_MAX = 2
DRAINED_SECONDS_MAX = 60.0


def messages_of(context, options, say):
    """How many: what was asked for, or what the disk carries."""
    wanted = options.messages or (MESSAGES_LONG if options.is_long else MESSAGES)
    carried = int(shutil.disk_usage(context.folder).free * FREE_SHARE_MAX / MESSAGE_DISK_BYTES)
    if carried < wanted:
        say("the disk carries %d messages, not %d" % (carried, wanted))
    return min(carried, wanted)


def filled(broker, queues, messages, say):
    """Fills the queues, and holds the broker's memory against what it was before; gives the limit."""
    declare(broker, queues)
    idle = anonymous_bytes(broker)
    most = idle + BACKLOG_BYTES_MAX
    began = time.monotonic()
    fill(broker, queues, messages)
    took, at_once = time.monotonic() - began, anonymous_bytes(broker)
    settled = eventually_at_most(lambda: anonymous_bytes(broker), most, "RssAnon after the fill")
    say("%d messages in %.1f s; RssAnon %s idle, %s after the fill, %s a while later, VmHWM %s" % (
        messages, took, mib(idle), mib(at_once), mib(settled), mib(memory(broker, "VmHWM"))))
    equal(sum(counts(broker, queues)), messages, "messages that the broker tells of")
    return most


def restarted(context, broker, say):
    """kill -9 and the next start."""
    killed(broker)
    began = time.monotonic()
    broker = context.broker()
    say("ready %.0f ms after the start, RssAnon %s" % (1000 * (time.monotonic() - began), mib(anonymous_bytes(broker))))
    return broker, began


def first_delivery(broker, queue, began, say):
    """The first message of a queue, put back."""
    channel = broker.connect().channel()
    asked = time.monotonic()
    got = channel.get(queue, no_ack=False)
    now = time.monotonic()
    equal(got.name, "basic.get-ok", "answer to the first basic.get")
    say("first delivery %.0f ms after it was asked for, %.0f ms after the start" % (
        1000 * (now - asked), 1000 * (now - began)))
    assert now - began < FIRST_DELIVERY_SECONDS_MAX, "the first delivery took too long"
    channel.connection.close()


def drained(context, broker, queues, messages, most, say, is_redelivered=False):
    """Takes everything with acknowledgements; memory and disk are free again after that."""
    drain = Drain(broker, queues, prefetch=1000)
    began = time.monotonic()
    drain.start()
    drain.take(messages)
    drain.close()
    say("drained in %.1f s, RssAnon %s" % (time.monotonic() - began, mib(anonymous_bytes(broker))))
    if is_redelivered:
        equal(drain.redelivered, messages, "redelivered messages")
    eventually(lambda: sum(counts(broker, queues)) == 0, "all is settled")
    data = context.path("data")
    left = eventually_at_most(lambda: folder.disk_bytes(data), DRAINED_DISK_BYTES_MAX, "data folder after draining",
                              DRAINED_SECONDS_MAX)
    segments = eventually_at_most(lambda: len(folder.segments(data)), DRAINED_SEGMENTS_MAX, "segments after draining",
                                  DRAINED_SECONDS_MAX)
    say("data folder %s, %d segments" % (mib(left), segments))
    eventually_at_most(lambda: anonymous_bytes(broker), most, "RssAnon after draining")
    return broker


def empty_after_restart(context, broker, queues, say):
    """What was drained does not come back: settlements are journaled within 200 ms."""
    time.sleep(1.0)
    broker, _ = restarted(context, broker, say)
    equal(sum(counts(broker, queues)), 0, "messages after a second kill")


@part("backlog", "a deep queue costs disk and not memory, survives kill -9, and leaves no files behind")
def one_queue(context, options, say):
    messages, queues = messages_of(context, options, say), names(1)
    broker = context.broker()
    most = filled(broker, queues, messages, say)
    broker, began = restarted(context, broker, say)
    equal(counts(broker, queues), [messages], "messages right after the start")
    first_delivery(broker, queues[0], began, say)
    drained(context, broker, queues, messages, most, say)
    empty_after_restart(context, broker, queues, say)


@part("backlog", "a consumer that takes a deep queue and settles nothing costs 24 B a message, and all come back")
def unsettled(context, options, say):
    messages, queues = messages_of(context, options, say), names(1)
    broker = context.broker()
    most = filled(broker, queues, messages, say)
    holder = Drain(broker, queues, acks=False)
    holder.start()
    holder.take(messages)
    held = eventually_at_most(lambda: anonymous_bytes(broker), most + UNSETTLED_BYTES * messages,
                              "RssAnon while everything is unsettled")
    say("RssAnon %s while everything is unsettled" % mib(held))
    equal(counts(broker, queues), [0], "messages that are ready while all are held")
    holder.close()
    eventually(lambda: counts(broker, queues) == [messages], "all are back")
    drained(context, broker, queues, messages, most, say, is_redelivered=True)
    # What is held at the kill is back as well.
    fill(broker, queues, messages // 10)
    holder = Drain(broker, queues, acks=False)
    holder.start()
    holder.take(messages // 10)
    broker, _ = restarted(context, broker, say)
    equal(counts(broker, queues), [messages // 10], "messages after a kill while all were held")
    drained(context, broker, queues, messages // 10, most, say)


@part("backlog", "the same messages spread over very many queues cost no more")
def many_queues(context, options, say):
    messages = messages_of(context, options, say)
    queues = names(options.queues or (QUEUES_LONG if options.is_long else QUEUES))
    messages -= messages % len(queues)
    broker = context.broker()
    most = filled(broker, queues, messages, say)
    broker, began = restarted(context, broker, say)
    equal(counts(broker, queues), [messages // len(queues)] * len(queues), "messages right after the start")
    first_delivery(broker, queues[-1], began, say)
    drained(context, broker, queues, messages, most, say)
    empty_after_restart(context, broker, queues, say)
