"""Peers that mean harm, or act like it, in a process of their own.

In: a kind, the broker's address, how many. Out: a crowd that runs until it is stopped, and says then what the broker
did to it: for each kind, how many peers met what should meet them.
"""

import multiprocessing
import os
import socket
import struct
import time
import traceback

import frames
from client import Client, Refused, connect

TICK_SECONDS = 0.05
RECONNECT_SECONDS = 1.0
FILLED_QUEUE = "test.connections.filled"

# Small segments and a small window keep what the kernel buffers small, so that the broker's own buffers fill.
SEGMENT_BYTES = 1400
RECEIVE_BUFFER_BYTES = 4096


def narrow(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


class Peer:
    """One hostile peer. `tick` is called twenty times a second and must not block; `is_met` tells whether the broker did
    with it what it must."""

    def __init__(self, address, number):
        self.address = address
        self.number = number
        self.socket = None
        self.heard = bytearray()
        self.closed = False
        self.opened_at = 0.0
        self.open()

    def open(self):
        self.socket = connect(self.address)
        self.begin()

    def begin(self):
        self.socket.setblocking(False)
        self.heard.clear()
        self.closed = False
        self.opened_at = time.monotonic()

    def listen(self):
        """Takes what the broker has said, and notes when it has hung up."""
        try:
            octets = self.socket.recv(1 << 16)
            self.heard += octets
            self.closed = self.closed or not octets
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True

    def say(self, octets):
        """Sends what the socket takes, and returns how much that was."""
        try:
            return self.socket.send(octets)
        except BlockingIOError:
            return 0
        except OSError:
            self.closed = True
            return 0

    def reopen_after_a_while(self):
        if time.monotonic() - self.opened_at > RECONNECT_SECONDS:
            self.socket.close()
            self.open()

    def tick(self):
        self.listen()

    def is_met(self):
        return True


class Garbage(Peer):
    """Says eight octets of nonsense, then much more of it, is thrown out and comes back."""

    answers = 0
    visits = 0

    def begin(self):
        super().begin()
        self.visits += 1
        self.counted = False
        self.say(b"\x00" + os.urandom(7))

    def tick(self):
        self.listen()
        if bytes(self.heard) == frames.PROTOCOL_HEADER and not self.counted:
            self.answers += 1
            self.counted = True
        if not self.closed and time.monotonic() - self.opened_at > RECONNECT_SECONDS / 2:
            self.say(os.urandom(1 << 16))
        if self.closed:
            self.reopen_after_a_while()

    def is_met(self):
        """Every visit but the one under way was answered with the protocol's header."""
        return self.visits > 1 and self.answers >= self.visits - 1


class Silent(Peer):
    """Says nothing at all. The deadline of the handshake ends it."""

    def is_met(self):
        return self.closed


class Drip(Peer):
    """Says what is right, one octet a second. The deadline of the handshake ends it."""

    said = 0

    def tick(self):
        self.listen()
        speech = frames.PROTOCOL_HEADER + frames.start_ok()
        if not self.closed and time.monotonic() - self.opened_at >= self.said:
            self.said += self.say(speech[self.said:self.said + 1])

    def is_met(self):
        return self.closed


class Deaf(Peer):
    """Consumes a full queue without acknowledgement and never reads a delivery."""

    def open(self):
        client = Client(self.address, narrow)
        client.socket.sendall(frames.basic_consume(FILLED_QUEUE, "deaf"))
        self.socket = client.socket
        self.begin()

    def tick(self):
        """It does not read, and so hears nothing."""


class Greedy(Peer):
    """Asks for messages of a full queue without end and never reads one."""

    REQUESTS = frames.basic_get(FILLED_QUEUE) * 1000
    SAID_BYTES_A_TICK_MAX = 1 << 20

    def open(self):
        self.offset = 0
        self.socket = Client(self.address, narrow).socket
        self.begin()

    def tick(self):
        said = 0
        while said < self.SAID_BYTES_A_TICK_MAX:
            taken = self.say(self.REQUESTS[self.offset:])
            if taken == 0:
                return
            self.offset = (self.offset + taken) % len(self.REQUESTS)
            said += taken


class Oversize(Peer):
    """Announces a frame of two gigabytes and sends on, before the handshake or after it."""

    FRAME = struct.pack(">BHI", frames.METHOD, 1, 1 << 31)
    refusals = 0
    visits = 0

    def open(self):
        self.visits += 1
        self.counted = False
        if self.number % 2:
            self.socket = Client(self.address).socket
            self.begin()
            self.say(self.FRAME)
        else:
            self.socket = connect(self.address)
            self.begin()
            self.say(frames.PROTOCOL_HEADER + self.FRAME)

    def tick(self):
        self.listen()
        if not self.counted and (self.closed or self.was_told()):
            self.refusals += 1
            self.counted = True
        if time.monotonic() - self.opened_at > RECONNECT_SECONDS / 2:
            self.say(bytes(1 << 16))
        if self.counted:
            self.reopen_after_a_while()

    def was_told(self):
        """501 FRAME_ERROR, the answer after the handshake. Before it the broker may just hang up."""
        for kind, _, payload in frames.split(bytearray(self.heard)):
            if frames.name_of(kind, payload) == frames.CONNECTION_CLOSE:
                code, text = frames.reason_of(payload)
                if code != 501:
                    raise Refused("501 was due instead of %d %s" % (code, text))
                return True
        return False

    def is_met(self):
        return self.refusals >= max(1, self.visits - 1)


class Crowd:
    """Hostile peers of one kind in a process of their own, so that their work is not the test's."""

    def __init__(self, kind, address, count):
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=act, args=(kind, address, count, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.hear()

    def stop(self):
        """Ends the peers; returns how many of them met what they should."""
        self.pipe.send("stop")
        met = self.hear()
        self.process.join()
        return met

    def hear(self):
        if not self.pipe.poll(60):
            raise Refused("the hostile peers say nothing")
        word, value = self.pipe.recv()
        if word == "error":
            raise Refused("the hostile peers failed:\n%s" % value)
        return value


def act(kind, address, count, pipe):
    try:
        peers = [kind(address, number) for number in range(count)]
        pipe.send(("ready", None))
        while not pipe.poll(TICK_SECONDS):
            for peer in peers:
                peer.tick()
        pipe.send(("stopped", sum(peer.is_met() for peer in peers)))
    except Exception:
        pipe.send(("error", traceback.format_exc()))
