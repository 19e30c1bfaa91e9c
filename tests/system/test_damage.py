"""Damaged definitions: the broker starts, says what it did, and has everything that the export has."""

import json
import os
import random
import shutil
import time

from harness import Context, contains, equal, eventually, test, user, permission

NO_PORTS = ("--amqp", "127.0.0.1:0", "--http", "none")
QUEUES = 40


def prepare(context):
    """A folder of a broker that was killed after its export, to make damaged copies of."""
    file = context.write("defs.json", {
        "users": [user("ann")], "vhosts": [{"name": "/"}, {"name": "shop"}],
        "permissions": [permission("ann", vhost="shop")]})
    broker = context.broker("--load-definitions", file, data="sound")
    channel = broker.connect(user="ann", password="pw", vhost="shop").channel()
    channel.call("exchange.declare", exchange="events", type="topic", durable=True)
    for number in range(QUEUES):
        channel.declare("q%d" % number, arguments={"x-max-length": number})
        channel.call("queue.bind", queue="q%d" % number, exchange="events", routing_key="k.%d" % number)

    def is_exported():
        try:
            with open(context.path("sound", "meta.json"), encoding="utf-8") as export:
                return len(json.load(export)["bindings"]) == QUEUES
        except FileNotFoundError:
            return False

    eventually(is_exported, "everything is exported")
    broker.kill()


def copy(context, name):
    shutil.copytree(context.path("sound"), context.path(name))
    return context.path(name)


def is_all_there(context, name):
    """Starts a broker on the folder, asks for everything, and gives its log."""
    broker = context.spawn("--data-dir", name, *NO_PORTS).until_ready()
    channel = broker.connect(user="ann", password="pw", vhost="shop").channel()
    channel.call("confirm.select")
    channel.call("exchange.declare", exchange="events", type="topic", durable=True)
    for number in range(QUEUES):
        channel.declare("q%d" % number, arguments={"x-max-length": number})
        equal(channel.is_routed("events", "k.%d" % number), True, "routed to q%d" % number)
    # What is declared now is there the next time.
    channel.declare("after")
    broker.kill()
    log = broker.log
    assert "panicked" not in log, log
    broker = context.spawn("--data-dir", name, *NO_PORTS).until_ready()
    broker.connect(user="ann", password="pw", vhost="shop").channel().declare("after", passive=True)
    assert "damaged" not in broker.log, "a second time:\n" + broker.log
    broker.kill()
    return log


def rebuilt(log, part=""):
    lines = [line for line in log.splitlines() if "the definitions were damaged" in line]
    assert lines, "no report in\n" + log
    contains(lines[0], "definitions were taken from", "report")
    contains(lines[0], part, "report")


def overwrite(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


@test("a cut, emptied, overwritten or missing catalogue is rebuilt from its export and set aside")
def damaged_files(context: Context):
    prepare(context)
    size = os.path.getsize(context.path("sound", "meta", "db"))
    for name, damage in [
            ("cut-in-half", lambda meta: os.truncate(meta + "/db", size // 2)),
            ("emptied", lambda meta: os.truncate(meta + "/db", 0)),
            ("overwritten", lambda meta: overwrite(meta + "/db", 0, b"\xa5" * size)),
            ("middle-zeroed", lambda meta: overwrite(meta + "/db", size // 4, bytes(size // 2))),
            ("db-removed", lambda meta: os.remove(meta + "/db")),
            ("conf-garbage", lambda meta: overwrite(meta + "/conf", 0, b"\xff" * 20)),
            ("meta-removed", shutil.rmtree)]:
        folder = copy(context, name)
        damage(os.path.join(folder, "meta"))
        rebuilt(is_all_there(context, name))
        aside = [entry for entry in os.listdir(folder) if entry.startswith("meta.damaged-")]
        equal(len(aside), 0 if name == "meta-removed" else 1, "folders set aside of " + name)


@test("a few flipped bits anywhere in the catalogue lose nothing")
def flipped_bits(context: Context):
    prepare(context)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    size = os.path.getsize(context.path("sound", "meta", "db"))
    for number in range(6):
        name = "flip-%d" % number
        file = os.path.join(copy(context, name), "meta", "db")
        for _ in range(1 + number):
            at = chance.randrange(size)
            with open(file, "rb") as catalogue:
                catalogue.seek(at)
                byte = catalogue.read(1)[0]
            overwrite(file, at, bytes([byte ^ 1 << chance.randrange(8)]))
        try:
            is_all_there(context, name)
        except Exception as error:
            raise AssertionError("seed %d, copy %d: %s" % (seed, number, error)) from error


@test("a missing or broken export is no harm while the catalogue is sound, and the one before it helps")
def damaged_exports(context: Context):
    prepare(context)
    for name, content in ("export-gone", None), ("export-broken", b"{\"users\": ["):
        folder = copy(context, name)
        if content is None:
            os.remove(os.path.join(folder, "meta.json"))
        else:
            overwrite(os.path.join(folder, "meta.json"), 0, content)
        log = is_all_there(context, name)
        assert "damaged" not in log, log
    folder = copy(context, "older-export")
    shutil.copy(os.path.join(folder, "meta.json"), os.path.join(folder, "meta.json.prev"))
    os.truncate(os.path.join(folder, "meta.json"), 100)
    os.truncate(os.path.join(folder, "meta", "db"), 50)
    rebuilt(is_all_there(context, "older-export"), "meta.json.prev")


@test("catalogue and exports all broken is one line and 65, and nothing is touched")
def all_damaged(context: Context):
    prepare(context)
    folder = copy(context, "hopeless")
    for file in ("meta.json", "meta.json.prev"):
        if os.path.exists(os.path.join(folder, file)):
            os.truncate(os.path.join(folder, file), 10)
    configuration = os.path.join(folder, "meta", "conf")
    overwrite(configuration, 0, b"\xff" * os.path.getsize(configuration))
    line = context.fails(65, "are damaged", "--data-dir", "hopeless", *NO_PORTS)
    contains(line, "restore the data folder from a backup", "line")
    with open(configuration, "rb") as content:
        equal(set(content.read()), {0xff}, "octets of the damaged file")


@test("a damaged catalogue is rebuilt by an offline import too")
def import_damaged(context: Context):
    prepare(context)
    os.truncate(os.path.join(copy(context, "offline"), "meta", "db"), 64)
    file = context.write("more.json", {"users": [user("bob")]})
    code, _, errors = context.run("definitions", "import", file, "--data-dir", "offline")
    equal(code, 0, "exit code, with " + errors)
    is_all_there(context, "offline")


@test("a rebuild that is killed at any moment is made again, and nothing is lost")
def killed_rebuild(context: Context):
    prepare(context)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for number in range(8):
        name = "killed-%d" % number
        meta = os.path.join(copy(context, name), "meta")
        os.truncate(os.path.join(meta, "db"), 100)
        for _ in range(2):
            broker = context.spawn("--data-dir", name, *NO_PORTS)
            time.sleep(chance.uniform(0.01, 0.25))
            broker.kill()
        try:
            is_all_there(context, name)
        except Exception as error:
            raise AssertionError("seed %d, copy %d: %s" % (seed, number, error)) from error


@test("a first start that is killed at any moment leaves a folder that starts, with guest")
def killed_first_start(context: Context):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for number in range(12):
        name = "first-%d" % (number // 3)
        broker = context.spawn("--data-dir", name, *NO_PORTS)
        time.sleep(chance.uniform(0.0, 0.15))
        if chance.random() < 0.3:
            broker.process.terminate()
            time.sleep(chance.uniform(0.0, 0.02))
        broker.kill()
        if number % 3 == 2:
            try:
                broker = context.spawn("--data-dir", name, *NO_PORTS).until_ready()
                broker.connect().channel().declare("q")
            except Exception as error:
                raise AssertionError("seed %d, start %d: %s" % (seed, number, error)) from error
            assert "panicked" not in broker.log, broker.log
            broker.kill()
