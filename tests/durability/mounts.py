"""Small file systems made for a test: in memory, or in a file with a loop device.

In: sizes and paths. Out: mounted folders that go with the `with` block; `Skip` with the reason where this process may not
mount.
"""

import contextlib
import os
import subprocess
import time

from harness import Skip

UNMOUNT_SECONDS_MAX = 10.0


def run(*command):
    """Runs a program of the system; gives its standard error if it failed, else an empty text."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        return "%s is not installed" % command[0]
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or "exit %d" % done.returncode


@contextlib.contextmanager
def mounted(point, *options):
    """A mount while the block lasts."""
    if os.geteuid() != 0:
        raise Skip("only root may mount file systems")
    os.makedirs(point, exist_ok=True)
    problem = run("mount", *options, point)
    if problem:
        raise Skip("mount %s: %s" % (" ".join(options), problem))
    try:
        yield point
    finally:
        unmount(point)


def unmount(point):
    """A process that was just killed may hold its files for a moment."""
    deadline = time.monotonic() + UNMOUNT_SECONDS_MAX
    while problem := run("umount", point):
        if time.monotonic() > deadline:
            run("umount", "--lazy", point)
            raise AssertionError("umount %s: %s" % (point, problem))
        time.sleep(0.05)


def in_memory(point, size_bytes):
    """A file system of that size in memory."""
    return mounted(point, "-t", "tmpfs", "-o", "size=%d" % size_bytes, "haremq-durability")


def in_file(point, image):
    """The file system in a file that `make_image` made."""
    return mounted(point, "-o", "loop", image)


def make_image(image, size_bytes):
    """A file with an empty ext4; it takes no more of the disk than what is written to it."""
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    problem = run("mkfs.ext4", "-q", "-F", image)
    if problem:
        raise Skip("mkfs.ext4: " + problem)
