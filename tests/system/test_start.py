"""Starting: defaults, flags, environment, file, what cannot work, and the small commands."""

import os
import socket

from amqp import Connection
from harness import Skip, contains, equal, free_port, test


def is_free(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        return True
    except OSError:
        return False


def has_ipv6_loopback():
    return is_free("::1", 0)


@test("haremq alone serves AMQP and HTTP on loopback with its data beside the caller")
def defaults(context):
    hosts = ["127.0.0.1"] + (["::1"] if has_ipv6_loopback() else [])
    if not all(is_free(host, port) for host in hosts for port in (5672, 15672)):
        raise Skip("port 5672 or 15672 is in use on this machine")
    broker = context.spawn().until_ready()
    form = {"127.0.0.1": "127.0.0.1:%d", "::1": "[::1]:%d"}
    equal(broker.amqp, [form[host] % 5672 for host in hosts], "AMQP addresses")
    equal(broker.http, [form[host] % 15672 for host in hosts], "HTTP addresses")
    equal(broker.data, "./haremq-data", "data folder")
    for host in hosts:
        broker.connect(host=host).close()
    assert os.path.isfile(context.path("haremq-data", "haremq-format"))
    equal(broker.log.count(": ready in"), 1, "ready lines")
    broker.stop()


@test("a missing ::1 is a log line when it is a default and an error when it was asked for")
def no_ipv6(context):
    script = ("ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && exec \"$@\"")
    prefix = ("unshare", "-rn", "sh", "-c", script, "sh")
    trial = context.spawn("version", prefix=prefix)
    if trial.wait() != 0:
        raise Skip("a network without IPv6 cannot be made here: " + trial.log.strip())
    broker = context.spawn(prefix=prefix).until_ready()
    equal(broker.amqp, ["127.0.0.1:5672"], "AMQP addresses")
    equal(broker.http, ["127.0.0.1:15672"], "HTTP addresses")
    contains(broker.log, "not listening", "log")
    broker.stop()
    broker = context.spawn("--amqp", "[::1]:5672", "--data-dir", "other", prefix=prefix)
    equal(broker.wait(), 69, "exit code")
    contains(broker.log, "haremq: cannot listen on [::1]:5672 for AMQP", "log")


@test("serve takes its addresses and its data folder from flags")
def flags(context):
    broker = context.spawn("serve", "--data-dir", "here/below", "--amqp", "127.0.0.1:0", "--amqp", "127.0.0.2:0",
                           "--http", "none").until_ready()
    equal([address.rsplit(":", 1)[0] for address in broker.amqp], ["127.0.0.1", "127.0.0.2"], "AMQP hosts")
    equal(broker.http, [], "HTTP addresses")
    equal(broker.data, "here/below", "data folder")
    for address in broker.amqp:
        host, port = address.rsplit(":", 1)
        Connection(int(port), host=host).close()
    assert os.path.isdir(context.path("here", "below", "meta"))
    broker.stop()


@test("the environment names everything that the file names")
def environment(context):
    broker = context.spawn(environment={
        "HAREMQ_DATA_DIR": "from-environment", "HAREMQ_LISTEN_AMQP": "127.0.0.1:0,127.0.0.2:0",
        "HAREMQ_LISTEN_HTTP": "none", "HAREMQ_LIMITS_CHANNEL_MAX": "7"}).until_ready()
    equal((len(broker.amqp), broker.http, broker.data), (2, [], "from-environment"), "addresses and folder")
    connection = broker.connect(channel_max=7)
    equal(connection.tune.channel_max, 7, "channel_max offered")
    connection.close()


@test("a configuration file is read, by flag and by HAREMQ_CONFIG")
def file(context):
    path = context.write("c.toml", "data_dir = 'from-file'\n[listen]\namqp = ['127.0.0.1:0']\nhttp = []\n"
                                   "[limits]\nheartbeat_s = 17\n")
    for arguments, variables in (["--config", path], {}), ([], {"HAREMQ_CONFIG": path}):
        broker = context.spawn(*arguments, environment=variables).until_ready()
        equal(broker.data, "from-file", "data folder")
        equal(broker.connect().tune.heartbeat, 17, "heartbeat offered")
        broker.stop()


@test("flags beat HAREMQ_*, that beats RabbitMQ's names, those beat the file, and that beats the defaults")
def precedence(context):
    path = context.write("c.toml", "data_dir = 'file'\n[first_boot]\ndefault_user = 'file'\n")

    def setting(key, *arguments, **variables):
        code, out, errors = context.run("serve", "--check-config", *arguments, environment=variables)
        equal((code, errors), (0, ""), "outcome")
        lines = [line for line in out.splitlines() if line.startswith(key + " = ")]
        return lines[0].split(" = ")[1].strip('"')

    config = ("--config", path)
    equal(setting("data_dir"), "./haremq-data")
    equal(setting("data_dir", *config), "file")
    equal(setting("data_dir", *config, HAREMQ_DATA_DIR="variable"), "variable")
    equal(setting("data_dir", *config, "--data-dir", "flag", HAREMQ_DATA_DIR="variable"), "flag")
    equal(setting("default_user", *config), "file")
    equal(setting("default_user", *config, RABBITMQ_DEFAULT_USER="rabbit"), "rabbit")
    both = {"RABBITMQ_DEFAULT_USER": "rabbit", "HAREMQ_FIRST_BOOT_DEFAULT_USER": "hare"}
    equal(setting("default_user", *config, **both), "hare")
    equal(setting("default_user", *config, RABBITMQ_DEFAULT_USER=""), "file")


@test("--check-config prints a file that can be used, hides secrets and makes nothing")
def check_config(context):
    code, out, errors = context.run("--check-config", "--amqp", "127.0.0.1:5000",
                                    environment={"RABBITMQ_DEFAULT_PASS": "s3cret", "HAREMQ_COLOUR": "x"})
    equal(code, 0, "exit code")
    assert "s3cret" not in out + errors, out
    contains(errors, "haremq: environment variable HAREMQ_COLOUR is no setting", "warnings")
    contains(out, 'amqp = ["127.0.0.1:5000"]', "settings")
    assert not os.path.exists(context.path("haremq-data")), "a folder was made"
    kept = "".join(line + "\n" for line in out.splitlines() if not line.startswith("default_pass"))
    code, again, errors = context.run("--check-config", "--config", context.write("again.toml", kept))
    equal((code, errors), (0, ""), "outcome of reading it again")
    equal(again.replace("\n", ""), out.replace("\n", ""), "settings read again")


@test("wrong values and words end with one clear line and a code of sysexits")
def wrong(context):
    for code, part, arguments, variables in [
            (64, "unrecognized subcommand 'fly'", ["fly"], {}),
            (64, "--colour", ["serve", "--colour", "brown"], {}),
            (64, "see haremq --help", ["definitions"], {}),
            (64, "<FILE>", ["definitions", "import"], {}),
            (64, "--timeout-ms", ["ping", "--timeout-ms", "soon"], {}),
            (78, "flag --amqp: `listen.amqp` is", ["--amqp", "5672"], {}),
            (78, "flag --amqp: `listen.amqp` is", ["--amqp", "none"], {}),
            (78, "flag --log-level: `log.level` is", ["--log-level", "loud"], {}),
            (78, "flag --log-format: `log.format` is", ["--log-format", "xml"], {}),
            (78, "environment variable HAREMQ_LIMITS_CHANNEL_MAX: `limits.channel_max` is", [],
             {"HAREMQ_LIMITS_CHANNEL_MAX": "0"}),
            (78, "environment variable HAREMQ_LIMITS_MESSAGE_BYTES_MAX", [],
             {"HAREMQ_LIMITS_MESSAGE_BYTES_MAX": "1GiB"}),
            (78, "environment variable HAREMQ_ALARMS_MEMORY_HIGH_WATERMARK", [],
             {"HAREMQ_ALARMS_MEMORY_HIGH_WATERMARK": "1.5"}),
            (78, "HAREMQ_FIRST_BOOT_DEFAULT_PERMISSION_READ", [],
             {"HAREMQ_FIRST_BOOT_DEFAULT_PERMISSION_READ": "("}),
            (66, "cannot read the configuration file /nowhere/c.toml", ["--config", "/nowhere/c.toml"], {}),
            (66, "cannot read the configuration file /nowhere/e.toml", [], {"HAREMQ_CONFIG": "/nowhere/e.toml"}),
            (74, "cannot read the configuration file /", ["--config", "/"], {})]:
        line = context.fails(code, part, *arguments, environment=variables)
        assert len(line) < 400, line


@test("a wrong file is told by line and column, with the likely key, and all problems at once")
def wrong_file(context):
    path = context.write("c.toml", "[limits]\nchannel_maxx = 5\n")
    context.fails(78, path + ":2:1: unknown key `limits.channel_maxx`; did you mean `limits.channel_max`?",
                  "--config", path)
    path = context.write("c.toml", "[limits]\nchannel_max = 'many'\n")
    context.fails(78, path + ":2:15: `limits.channel_max` is", "--config", path)
    path = context.write("c.toml", "[limits\n")
    context.fails(78, path + ":1:8: ", "--config", path)
    path = context.write("c.toml", "vm_memory_high_watermark = 0.4\n[limits]\nchannel_max = 0\nheartbeat_s = -1\n")
    code, _, errors = context.run("--check-config", "--config", path)
    equal((code, len(errors.splitlines())), (78, 3), "code and lines of\n" + errors)
    assert all(line.startswith("haremq: " + path) for line in errors.splitlines()), errors


@test("a port in use is one line and 69, for AMQP and for HTTP")
def port_in_use(context):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        context.fails(69, "cannot listen on %s for AMQP" % address, "--amqp", address, "--http", "none")
        context.fails(69, "cannot listen on %s for HTTP" % address, "--http", address, "--amqp", "127.0.0.1:0")
        line = context.fails(69, "another program listens there", "--amqp", address, "--http", "none")
        assert "panicked" not in line
    context.fails(69, "this machine has no such address", "--amqp", "192.0.2.77:5672", "--http", "none")


@test("a data folder in use is one line and 69, and the first broker goes on")
def folder_in_use(context):
    broker = context.broker()
    context.fails(69, "data folder data is in use by another haremq", "--data-dir", "data", "--amqp",
                  "127.0.0.1:0", "--http", "none")
    broker.connect().close()
    broker.kill()
    context.broker().connect().close()


@test("a data folder that is a file, unreadable, newer or strange is one line and its code")
def bad_folder(context):
    listen = ("--amqp", "127.0.0.1:0", "--http", "none")
    context.write("a-file", "")
    context.fails(73, "data folder a-file cannot be written", "--data-dir", "a-file", *listen)
    context.fails(73, "data folder a-file/below cannot be written", "--data-dir", "a-file/below", *listen)
    context.fails(73, "data folder /proc/nothing cannot be written", "--data-dir", "/proc/nothing", *listen)
    for content, code, part in [
            ("3\n", 65, "has format 3, this haremq knows 2"),
            ("", 65, "haremq-format file that is no number"),
            ("one\n", 65, "haremq-format file that is no number ('one')")]:
        os.makedirs(context.path("strange"), exist_ok=True)
        context.write("strange/haremq-format", content)
        context.fails(code, part, "--data-dir", "strange", *listen)
    os.makedirs(context.path("unreadable", "haremq-format"))
    context.fails(66, "data folder unreadable cannot be read", "--data-dir", "unreadable", *listen)
    equal(sorted(os.listdir(context.path("strange"))), ["haremq-format", "haremq.lock"], "files made")


@test("version, help and ping say what they should")
def small_commands(context):
    code, out, errors = context.run("version")
    equal((code, errors), (0, ""), "version")
    assert out.startswith("haremq ") and out.count("\n") == 1, out
    equal(context.run("--version")[:2], (0, out), "--version")
    for words in (["--help"], ["serve", "--help"], ["definitions", "--help"], ["ping", "--help"]):
        code, out, errors = context.run(*words)
        equal((code, errors), (0, ""), "help")
        assert "Usage:" in out and "check-store" not in out, out
    broker = context.broker()
    equal(context.run("ping", "--amqp", broker.amqp[0]), (0, "", ""), "ping")
    equal(context.run("ping", environment={"HAREMQ_LISTEN_AMQP": "0.0.0.0:%d" % broker.port}), (0, "", ""), "ping")
    context.fails(69, "does not speak AMQP", "ping", "--amqp", broker.http[0])
    context.fails(69, "no broker answers at", "ping", "--amqp", "127.0.0.1:%d" % free_port())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        context.fails(69, "no answer within 200 ms", "ping", "--timeout-ms", "200", "--amqp",
                      "127.0.0.1:%d" % silent.getsockname()[1])
    assert "warn" not in broker.log.lower(), "a ping is no warning:\n" + broker.log
