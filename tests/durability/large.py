"""Very large messages, and the kill of a broker in the middle of one: it is there as a whole or not at all.

In: the program. Out: the part `large`: bodies of 16 MiB, in a long run of 512 MiB, which is the largest that the settings
allow. Bodies are made and checked piece by piece, because a client that holds them whole takes longer than the broker.
"""

import struct
import threading
import time

import folder
from amqp import FRAME_BODY, FRAME_HEADER, FRAME_METHOD, Gone, decode_method, encode_method, encode_properties, frame
from harness import equal
from letters import BLOCK
from suite import complaints, eventually_at_most, killed, memory, mib, no_panic, part

BODY_BYTES, BODY_BYTES_LONG = 16 << 20, 512 << 20
ROUNDS, ROUNDS_LONG = 6, 10
QUEUE = "large"

# What fills one frame of the usual limit.
PIECE_BYTES = 131_064
STAMP = struct.Struct(">IQ")
ANSWER_SECONDS_MAX = 300.0

# An acknowledgement is journaled within 200 ms.
SETTLED_SECONDS = 0.5
EMPTY_DISK_BYTES_MAX = 250_000_000


def piece(number, at, size):
    """The piece of body `number` that begins at octet `at`."""
    stamp = STAMP.pack(number, at)
    filling = BLOCK * (PIECE_BYTES // len(BLOCK) + 1)
    return (stamp + filling)[:min(PIECE_BYTES, size - at)]


class Publisher(threading.Thread):
    """Publishes one message with a confirm; knows how far it came when the broker is gone."""

    def __init__(self, broker, number, size):
        super().__init__()
        self.channel = broker.connect().channel()
        self.channel.call("confirm.select")
        self.number, self.size = number, size
        self.is_sent = self.is_confirmed = False
        self.took_s = None
        self.error = None
        self.start()

    def run(self):
        began = time.monotonic()
        connection, channel = self.channel.connection, self.channel.number
        properties = encode_properties(delivery_mode=2)
        try:
            connection.send(frame(FRAME_METHOD, channel, encode_method("basic.publish", routing_key=QUEUE))
                            + frame(FRAME_HEADER, channel, struct.pack(">HHQ", 60, 0, self.size) + properties))
            for at in range(0, self.size, PIECE_BYTES):
                connection.send(frame(FRAME_BODY, channel, piece(self.number, at, self.size)))
            self.is_sent = True
            self.channel.wait("basic.ack", limit_s=ANSWER_SECONDS_MAX)
            self.is_confirmed = True
            self.took_s = time.monotonic() - began
        except (Gone, OSError):
            pass
        except Exception as error:  # told where the thread is joined
            self.error = error

    def ended(self):
        self.join(ANSWER_SECONDS_MAX)
        assert not self.is_alive() and self.error is None, "the publisher met %r" % self.error


def fetched(channel, size):
    """The number of the next message, whose body must be whole and as it was sent; `None` if there is none."""
    connection = channel.connection
    channel.send("basic.get", queue=QUEUE)
    _, _, payload = connection.read_frame(ANSWER_SECONDS_MAX)
    answer = decode_method(payload)
    if answer.name == "basic.get-empty":
        return None
    equal(answer.name, "basic.get-ok", "answer to basic.get")
    kind, _, payload = connection.read_frame(ANSWER_SECONDS_MAX)
    equal((kind, struct.unpack(">Q", payload[4:12])[0]), (FRAME_HEADER, size), "frame and size of the body")
    number, at, held = None, 0, bytearray()
    while at < size:
        kind, _, payload = connection.read_frame(ANSWER_SECONDS_MAX)
        equal(kind, FRAME_BODY, "type of the frame")
        held += payload
        while at < size and len(held) >= min(PIECE_BYTES, size - at):
            if number is None:
                number = STAMP.unpack_from(held)[0]
            expected = piece(number, at, size)
            assert held[:len(expected)] == expected, "message %d is not what was sent, from octet %d on" % (number, at)
            del held[:len(expected)]
            at += len(expected)
    equal(len(held), 0, "octets beyond the body")
    return number


def looked_into(broker, size):
    """The numbers of all messages, in the order of the queue; they are acknowledged."""
    channel = broker.connect().channel()
    told = channel.declare(QUEUE, passive=True).messages
    numbers = []
    while (number := fetched(channel, size)) is not None:
        numbers.append(number)
    equal(len(numbers), told, "messages that came, of those that the broker told of")
    if numbers:
        channel.send("basic.ack", delivery_tag=0, multiple=True)
    equal(channel.declare(QUEUE, passive=True).messages, 0, "messages after all were taken")
    channel.connection.close()
    time.sleep(SETTLED_SECONDS)
    return numbers


@part("large", "a very large message is whole or not there after a kill in its middle, and there if it was confirmed")
def large(context, options, say):
    size = BODY_BYTES_LONG if options.is_long else BODY_BYTES
    chance = options.chance("large")
    configuration = context.write("c.toml", "[limits]\nmessage_bytes_max = '512MiB'\n")

    def start():
        broker = context.broker("--config", configuration)
        no_panic(broker)
        equal(complaints(broker.log), [], "complaints of a start after kill -9")
        return broker

    broker = start()
    broker.connect().channel().declare(QUEUE)
    first = Publisher(broker, 0, size)
    first.ended()
    assert first.is_confirmed, "a message of %s is not confirmed:\n%s" % (mib(size), broker.log)
    say("%s confirmed in %.2f s, VmHWM %s" % (mib(size), first.took_s, mib(memory(broker, "VmHWM"))))
    expected, counts = [0], {"half sent": 0, "sent": 0, "confirmed": 0, "unconfirmed and there": 0}
    for number in range(1, options.rounds_of(ROUNDS, ROUNDS_LONG) + 1):
        publisher = Publisher(broker, number, size)
        time.sleep(chance.uniform(0.0, 1.3 * first.took_s))
        killed(broker)
        publisher.ended()
        broker = start()
        found = looked_into(broker, size)
        if publisher.is_confirmed:
            expected.append(number)
        is_more = not publisher.is_confirmed and found[-1:] == [number]
        assert found == expected + [number] * is_more, "--seed %d, round %d: %s are there, %s were confirmed, %d was %s" % (
            options.seed, number, found, expected, number, "sent" if publisher.is_sent else "cut off")
        assert publisher.is_sent or not is_more, "--seed %d: message %d is there, and was not sent" % (options.seed, number)
        outcome = "confirmed" if publisher.is_confirmed else "sent" if publisher.is_sent else "half sent"
        counts[outcome] += 1
        counts["unconfirmed and there"] += is_more
        expected = []
    say("kills: " + ", ".join("%d %s" % (count, what) for what, count in counts.items()))
    left = eventually_at_most(lambda: folder.disk_bytes(context.path("data")), EMPTY_DISK_BYTES_MAX,
                              "data folder when all is settled", 60.0)
    say("data folder %s" % mib(left))
    broker.stop()
    no_panic(broker)
