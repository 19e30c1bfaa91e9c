"""Thousands of connections in one thread: opened, used, left idle and closed, by epoll.

In: an address and a number. Out: open connections, each of which has published a message and got one back.
It measures nothing.
"""

import select
import socket
import time

import frames
from client import Refused

QUEUE = "test.connections.crowd"
BODY = bytes(256)

# Connections in the handshake at once: fewer than any backlog, enough to keep the broker busy.
HANDSHAKES_MAX = 100

# Nothing may take longer between two steps of the whole crowd.
SILENCE_SECONDS_MAX = 30

# What the broker says, and what the member answers. The last step is the end of a message got back.
SCRIPT = (
    (frames.CONNECTION_START, frames.start_ok()),
    (frames.CONNECTION_TUNE, frames.tune_ok() + frames.connection_open()),
    (frames.CONNECTION_OPEN_OK, frames.channel_open()),
    (frames.CHANNEL_OPEN_OK, frames.basic_publish(QUEUE, BODY) + frames.basic_get(QUEUE)),
    (frames.BASIC_GET_OK, b""),
    (frames.HEADER, b""),
    (frames.BODY, b""),
)


class Member:
    """One connection and the step of the script it waits for."""

    __slots__ = ("socket", "buffer", "script", "step")

    def __init__(self, address):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(address)
        self.buffer = bytearray()
        self.script = SCRIPT
        self.step = 0

    def read(self):
        """Takes what has come; True when the script has ended."""
        octets = self.socket.recv(1 << 16)
        if not octets:
            raise Refused("the socket was closed at step %d" % self.step)
        self.buffer += octets
        for kind, _, payload in frames.split(self.buffer):
            if kind == frames.HEARTBEAT:
                continue
            name = frames.name_of(kind, payload)
            expected, answer = self.script[self.step]
            if name != expected:
                why = " (%d %s)" % frames.reason_of(payload) if name == frames.CONNECTION_CLOSE else ""
                raise Refused("%r instead of %r%s" % (name, expected, why))
            if answer:
                self.socket.sendall(answer)
            self.step += 1
        return self.step == len(self.script)


def open_all(address, count):
    """Opens so many connections with a channel each, uses each one once, and returns them."""
    waiting, ready = {}, []
    poll = select.epoll()
    while len(ready) < count:
        while len(waiting) < HANDSHAKES_MAX and len(waiting) + len(ready) < count:
            member = Member(address)
            waiting[member.socket.fileno()] = member
            poll.register(member.socket, select.EPOLLOUT)
        for descriptor, events in wait(poll):
            member = waiting[descriptor]
            if events & select.EPOLLOUT:
                member.socket.sendall(frames.PROTOCOL_HEADER)
                poll.modify(descriptor, select.EPOLLIN)
            elif member.read():
                poll.unregister(descriptor)
                ready.append(waiting.pop(descriptor))
    poll.close()
    return ready


def close_all(members):
    """Closes every second connection as the protocol asks, and hangs up on the broker in the others."""
    poll = select.epoll()
    waiting = {}
    for number, member in enumerate(members):
        if number % 2:
            member.socket.close()
            continue
        member.script, member.step = ((frames.CONNECTION_CLOSE_OK, b""),), 0
        member.socket.sendall(frames.connection_close())
        poll.register(member.socket, select.EPOLLIN)
        waiting[member.socket.fileno()] = member
    while waiting:
        for descriptor, _ in wait(poll):
            if waiting[descriptor].read():
                poll.unregister(descriptor)
                waiting.pop(descriptor).socket.close()
    poll.close()


def wait(poll):
    started = time.monotonic()
    events = poll.poll(SILENCE_SECONDS_MAX, HANDSHAKES_MAX)
    if not events:
        raise Refused("nothing from the broker for %.0f s" % (time.monotonic() - started))
    return events
