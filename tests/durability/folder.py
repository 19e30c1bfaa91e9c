"""A broker's data folder from outside: its files by kind, what it takes of the disk, and damage done to it.

In: paths and chances. Out: lists, sizes, files with some bits turned. The formats are not known here, only names.
"""

import errno
import os
import shutil

PIECE_BYTES = 1 << 20


def files(data):
    """Every file of the folder, by its path inside of it."""
    found = {}
    for where, _, names in os.walk(data):
        for name in names:
            path = os.path.join(where, name)
            found[os.path.relpath(path, data)] = path
    return found


def kind_of(name):
    """What a file is for, by its name; `None` for those that hold nothing of worth."""
    top = name.split(os.sep)[0]
    if name == "haremq.lock" or top == "quarantine" or top.startswith("meta.damaged"):
        return None
    if name == "haremq-format":
        return "format"
    if top in ("meta.json", "meta.json.prev"):
        return "export"
    return {"journal": "journal", "queues": "segment", "meta": "meta", "blobs": "blob"}.get(top)


def by_kind(data):
    """Paths of the files that are not empty, by kind."""
    kinds = {}
    for name, path in sorted(files(data).items()):
        if kind_of(name) is not None and os.path.getsize(path) > 0:
            kinds.setdefault(kind_of(name), []).append(path)
    return kinds


def segments(data):
    """Paths of segment files."""
    return [path for name, path in files(data).items() if kind_of(name) == "segment" and name.endswith(".seg")]


def disk_bytes(data):
    """What the folder takes of the disk: blocks, not lengths. Files may go meanwhile."""
    total = 0
    for path in files(data).values():
        try:
            total += os.stat(path).st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def copy(source, target):
    """A copy of a stopped broker's folder, holes kept."""
    shutil.rmtree(target, ignore_errors=True)
    for name, path in files(source).items():
        there = os.path.join(target, name)
        os.makedirs(os.path.dirname(there), exist_ok=True)
        copy_sparse(path, there)
    return target


def remove(path):
    """Removes a file or a folder, if it is there."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


def copy_sparse(source, target):
    """Copies a file with its holes."""
    with open(source, "rb") as reader, open(target, "wb") as writer:
        size = os.path.getsize(source)
        writer.truncate(size)
        end = 0
        while end < size:
            try:
                start = os.lseek(reader.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            reader.seek(start)
            writer.seek(start)
            while start < end:
                piece = reader.read(min(PIECE_BYTES, end - start))
                writer.write(piece)
                start += len(piece)
    shutil.copymode(source, target)


def flip_bit(path, at, bit):
    """Turns one bit."""
    with open(path, "r+b") as file:
        file.seek(at)
        octet = file.read(1)[0]
        file.seek(at)
        file.write(bytes([octet ^ 1 << bit]))


def places_of(path, octets):
    """Offsets at which a file has these octets."""
    with open(path, "rb") as file:
        content = file.read()
    places, at = [], content.find(octets)
    while at >= 0:
        places.append(at)
        at = content.find(octets, at + 1)
    return places
