"""Messages that say who they are, and whose content can be told from any other.

In: publisher, number, size and priority. Out: properties and body; from a delivery the same four, or what is wrong with
it. A body is a piece of one block of random octets, at a place that follows from publisher and number: one octet that
differs, a shifted or cut body, or one of another message is noticed, and a test needs to keep no bodies.
"""

import random
from typing import NamedTuple

from amqp import decode_properties, encode_properties

BODY_BYTES_MAX = 2 << 20
BLOCK = random.Random(20).randbytes(2 * BODY_BYTES_MAX + 4099)


class Damaged(Exception):
    """A delivery whose content is not what was published."""


class Letter(NamedTuple):
    """One published message."""

    publisher: int
    number: int
    size: int
    priority: int = 0

    @property
    def key(self):
        return self.publisher, self.number

    @property
    def message_id(self):
        return "%d.%d.%d.%d" % self

    @property
    def body(self):
        at = (self.publisher * 1_299_709 + self.number * 7_919) % (len(BLOCK) - BODY_BYTES_MAX)
        return BLOCK[at:at + self.size]

    @property
    def properties(self):
        return encode_properties(
            delivery_mode=2, priority=self.priority, message_id=self.message_id, content_type="application/x",
            timestamp=1_700_000_000 + self.number, headers={"publisher": self.publisher, "number": self.number})


def read(delivery, headers_grow=False):
    """The letter of a delivery (or basic.get-ok). `headers_grow`: the broker may have added headers."""
    try:
        values = decode_properties(delivery.properties)
        letter = Letter(*(int(part) for part in values["message_id"].split(".")))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Damaged("properties %r: %s" % (delivery.properties[:200], error)) from None
    if headers_grow:
        given = decode_properties(letter.properties)
        values["headers"] = {name: values.get("headers", {}).get(name) for name in given["headers"]}
        intact = values == given
    else:
        intact = delivery.properties == letter.properties
    if not intact:
        raise Damaged("properties of %s are %r, published were %r" % (
            letter.message_id, delivery.properties, letter.properties))
    if letter.size > BODY_BYTES_MAX or delivery.body != letter.body:
        raise Damaged("the body of %s is not the published one: %d octets, %r..." % (
            letter.message_id, len(delivery.body), delivery.body[:32]))
    return letter


def random_size(chance):
    """Mostly small; some of every size up to 200 KiB, now and then 2 MiB."""
    kind = chance.random()
    if kind < 0.10:
        return 0
    if kind < 0.75:
        return chance.randint(1, 1024)
    if kind < 0.975:
        return chance.randint(1024, 16 << 10)
    if kind < 0.998:
        return chance.randint(16 << 10, 200 << 10)
    return BODY_BYTES_MAX
