"""What the machine itself gives at this moment: copying memory, a system call each way, a sync.

In: nothing, or a folder for the sync. Out: microseconds and bytes a nanosecond. These loops never change, so that their figures
tell a slow machine from a slow broker; run alone, this prints them.
"""

import os
import socket
import statistics
import tempfile
import time

COPY_BYTES = 1 << 20
COPIES = 100
ECHOES = 3000
ECHO_BYTES = 64
SYNCS = 60
SYNC_BYTES = 4096


def copy_us_per_mib():
    """CPU time to copy 1 MiB within memory."""
    source, target = bytearray(COPY_BYTES), bytearray(COPY_BYTES)
    view = memoryview(target)
    began = time.process_time_ns()
    for _ in range(COPIES):
        view[:] = source
    return (time.process_time_ns() - began) / 1e3 / COPIES


def echo_us():
    """CPU time of 64 octets through a TCP connection of the loopback address and back, in one thread: four system calls."""
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    try:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        octets = bytes(ECHO_BYTES)
        began = time.process_time_ns()
        for _ in range(ECHOES):
            near.send(octets)
            far.send(far.recv(ECHO_BYTES))
            near.recv(ECHO_BYTES)
        return (time.process_time_ns() - began) / 1e3 / ECHOES
    finally:
        for end in (near, far, listener):
            end.close()


def sync_us(folder=None):
    """The median time of an append of 4 KiB with fdatasync, in the folder where brokers keep their data."""
    readings = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(bytes(SYNC_BYTES))
            file.flush()
            began = time.monotonic_ns()
            os.fdatasync(file.fileno())
            readings.append((time.monotonic_ns() - began) / 1e3)
    return statistics.median(readings)


def calibrate(folder=None):
    """All of it: about 0.1 s."""
    return {"copy_us_per_mib": round(copy_us_per_mib(), 2), "echo_us": round(echo_us(), 3),
            "sync_us": round(sync_us(folder), 1), "load_average": round(os.getloadavg()[0], 2)}


if __name__ == "__main__":
    print(calibrate())
