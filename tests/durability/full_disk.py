"""A disk that is full: publishers wait, consumers go on, nothing confirmed is lost, and it ends by itself.

In: the program, and a file system of 256 MiB in memory. Out: the part `full-disk`.
"""

import errno
import os
import select

from amqp import encode_properties
from harness import equal, eventually
from letters import Letter, read
from mounts import in_memory
from suite import complaints, no_panic, part

DISK_BYTES = 256 << 20
BODY_BYTES = 64 << 10

# Publishes that are not confirmed yet; much less than the kernel's buffers hold may be under way besides.
WINDOW = 20

# No confirm for so long means that publishing is blocked.
BLOCKED_SECONDS = 4.0
RESUMED_SECONDS_MAX = 60.0

# The disk holds fewer.
MESSAGES_MAX = 2 * DISK_BYTES // BODY_BYTES


class Publisher:
    """A connection that publishes letters with confirms, as far as the broker reads it."""

    def __init__(self, broker, queue):
        self.connection = broker.connect(capabilities=["connection.blocked"])
        self.channel = self.connection.channel()
        self.channel.call("confirm.select")
        self.queue, self.sent, self.unsent = queue, 0, b""
        self.open, self.confirmed, self.nacked = set(), set(), set()

    def publish(self, count):
        """Publishes so many, or until nothing moves any more; `False` then."""
        for _ in range(count):
            while len(self.open) >= WINDOW or self.unsent:
                if not self.step(BLOCKED_SECONDS):
                    return False
            self.sent += 1
            self.open.add(self.sent)
            letter = Letter(1, self.sent, BODY_BYTES)
            self.unsent = self.channel.encode_publish("", self.queue, letter.body, properties=letter.properties)
        return True

    def step(self, limit_s):
        """Sends what the socket takes, or reads an answer; `False` if neither can be done for so long."""
        events = self.connection.events[self.channel.number]
        if not events:
            peer = self.connection.socket
            readable, writable, _ = select.select([peer], [peer] if self.unsent else [], [], limit_s)
            if writable:
                self.unsent = self.unsent[peer.send(self.unsent):]
            if readable:
                self.connection.pump()
                while self.connection.has_frame():
                    self.connection.pump()
            if not events:
                return bool(readable or writable)
        answer = self.channel.wait("basic.ack", "basic.nack")
        last = answer.delivery_tag
        tags = {tag for tag in self.open if tag <= last} if answer.multiple else {last}
        self.open -= tags
        (self.confirmed if answer.name == "basic.ack" else self.nacked).update(tags)
        return True

    def finish(self):
        """Waits until all that was under way is answered."""
        while self.open:
            assert self.step(RESUMED_SECONDS_MAX), "publishing does not resume: %d are open" % len(self.open)


def consume(broker, queue, count):
    """Takes and acknowledges so many, each checked; gives their numbers."""
    connection = broker.connect()
    channel = connection.channel()
    channel.call("basic.qos", count=10)
    channel.call("basic.consume", queue=queue, tag="c")
    numbers = []
    for _ in range(count):
        delivery = channel.wait("basic.deliver")
        numbers.append(read(delivery).number)
        channel.send("basic.ack", delivery_tag=delivery.delivery_tag)
    channel.send("basic.cancel", tag="c")
    while channel.wait("basic.deliver", "basic.cancel-ok").name != "basic.cancel-ok":
        pass
    connection.close()
    return numbers


def until_blocked(broker, publisher, say):
    assert not publisher.publish(MESSAGES_MAX), "the disk is not full after %d MiB" % (
        publisher.sent * BODY_BYTES >> 20)
    say("blocked after %d messages, %d confirmed, %d refused" % (
        publisher.sent, len(publisher.confirmed), len(publisher.nacked)))
    told = [line for line in complaints(broker.log) if "disk" in line.lower() or "space" in line.lower()]
    assert told, "the log does not say why publishing is blocked:\n" + broker.log
    # Once for each change, not once for each attempt.
    assert len(told) <= 4, "the log repeats itself:\n" + "\n".join(told)


def scenario(context, say, floor, ends):
    """`floor`: the free space under which the alarm is raised; `ends`: how room is made again."""
    with in_memory(context.path("disk"), DISK_BYTES) as disk:
        try:
            play(context, say, disk, floor, ends)
        finally:
            for broker in context.brokers:
                if broker.process.poll() is None:
                    broker.kill()


def play(context, say, disk, floor, ends):
    with open(os.path.join(disk, "filler"), "wb") as filler:
        filler.write(bytes(DISK_BYTES // 4 if ends == "filler" else 1 << 20))
    configuration = context.write("c.toml", "[alarms]\ndisk_free_limit = '%s'\ncheck_interval_ms = 100\n" % floor)

    def start():
        return context.broker("--config", configuration, data=os.path.join(disk, "data"))

    broker = start()
    setup = broker.connect().channel()
    setup.declare("q")
    publisher = Publisher(broker, "q")
    until_blocked(broker, publisher, say)
    # Consumers go on, and those who only ask.
    taken = consume(broker, "q", 50)
    assert broker.connect().channel().declare("q", passive=True).messages > 0, "more messages are there"
    if ends == "filler":
        os.remove(os.path.join(disk, "filler"))
    else:
        told = setup.declare("q", passive=True).messages
        taken += consume(broker, "q", told)
    publisher.finish()
    assert publisher.publish(100), "publishing is blocked again"
    publisher.finish()
    equal(publisher.nacked, set(), "publishes that were refused")
    say("resumed; %d messages confirmed in the end" % len(publisher.confirmed))
    broker.kill()
    no_panic(broker)
    broker = start()
    no_panic(broker)
    channel = broker.connect().channel()
    told = channel.declare("q", passive=True).messages
    found = consume(broker, "q", told)
    equal(found, sorted(found), "numbers in order")
    missing = publisher.confirmed - set(taken) - set(found)
    assert not missing, "%d confirmed messages are missing: %s" % (len(missing), sorted(missing)[:10])
    eventually(lambda: channel.declare("q", passive=True).messages == 0, "all is taken")
    channel.publish("", "q", b"after", properties=encode_properties(delivery_mode=2))
    eventually(lambda: channel.declare("q", passive=True).messages == 1, "it goes on")


def use_up(path):
    """Fills what is left of the disk, to the last block."""
    with open(path, "wb", buffering=0) as filler:
        for step in (1 << 20, 4096):
            try:
                while True:
                    filler.write(bytes(step))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


@part("full-disk", "not one block left: a killed broker starts, and draining the queue makes room")
def restarted(context, _options, say):
    with in_memory(context.path("disk"), DISK_BYTES) as disk:
        try:
            start_full(context, say, disk)
        finally:
            for broker in context.brokers:
                if broker.process.poll() is None:
                    broker.kill()


def start_full(context, say, disk):
    configuration = context.write("c.toml", "[alarms]\ndisk_free_limit = '0B'\ncheck_interval_ms = 100\n")

    def start():
        return context.broker("--config", configuration, data=os.path.join(disk, "data"))

    broker = start()
    broker.connect().channel().declare("q")
    publisher = Publisher(broker, "q")
    until_blocked(broker, publisher, say)
    use_up(os.path.join(disk, "filler"))
    broker.kill()
    no_panic(broker)
    broker = start()
    told = broker.connect().channel().declare("q", passive=True).messages
    missing = publisher.confirmed - set(consume(broker, "q", told))
    assert not missing, "%d confirmed messages are missing: %s" % (len(missing), sorted(missing)[:10])
    again = Publisher(broker, "q")
    # Blocked until the room is noticed.
    again.publish(WINDOW)
    again.finish()
    equal(again.nacked, set(), "publishes that were refused")
    no_panic(broker)


@part("full-disk", "no space left: publishing waits, and resumes when somebody else's file goes")
def filler_removed(context, _options, say):
    scenario(context, say, floor="0B", ends="filler")


@part("full-disk", "no space left: publishing waits, and resumes when the queue is drained")
def drained(context, _options, say):
    scenario(context, say, floor="0B", ends="draining")


@part("full-disk", "little space left: the alarm blocks publishing before the disk is full, and ends by draining")
def alarm(context, _options, say):
    scenario(context, say, floor="64MB", ends="draining")
