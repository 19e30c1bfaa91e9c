"""The log and SIGHUP: the form of a line, levels by part, what a reload changes and what it keeps."""

import json
import os
import signal

from amqp import Wire
from harness import Closed, contains, equal, eventually, refused, test

LISTEN = "[listen]\namqp = ['127.0.0.1:0']\nhttp = ['127.0.0.1:0']\n"


def configured(context, text, environment=None):
    path = context.write("c.toml", LISTEN + text)
    return context.spawn("--config", path, environment=environment).until_ready()


def rewrite(context, text):
    context.write("c.toml", LISTEN + text)


def refused_login(broker):
    try:
        broker.connect(password="wrong", capabilities=["authentication_failure_close"])
    except Exception as error:  # the test looks at the log
        return error
    raise AssertionError("a wrong password was right")


@test("log.format json writes one object a line, whatever happens")
def json_lines(context):
    broker = context.broker("--log-format", "json", "--log-level", "debug")
    connection = broker.connect(properties={"connection_name": "a \"name\"\nin two lines"})
    connection.close()
    refused_login(broker)
    wire = Wire(broker.port)
    wire.send(b"GET / HTTP/1.1\r\n\r\n")
    wire.rest()
    broker.stop()
    events = [json.loads(line) for line in broker.log.splitlines()]
    assert len(events) > 5, broker.log
    for event in events:
        assert {"timestamp", "level", "target", "message"} <= set(event), event
    warnings = [event["message"] for event in events if event["level"] == "WARN"]
    assert any("HTTP GET request detected on AMQP port" in warning for warning in warnings), warnings
    assert any("invalid credentials" in warning for warning in warnings), warnings


@test("each part of the log has its own level")
def levels_by_part(context):
    broker = context.broker()
    broker.connect().close()
    refused_login(broker)
    contains(broker.log, "login refused", "log at info")
    assert "DEBUG" not in broker.log, broker.log
    broker.stop()
    broker = context.broker(environment={"HAREMQ_LOG_LEVELS_CONNECTION": "debug", "HAREMQ_LOG_LEVELS_AUTH": "off"})
    broker.connect().close()
    refused_login(broker)
    eventually(lambda: "closed by the client" in broker.log, "a debug line of the connection")
    lines = broker.log.splitlines()
    assert all("haremq::connection" in line for line in lines if "DEBUG" in line), broker.log
    assert not any("haremq::auth" in line for line in lines), broker.log
    broker.stop()


@test("SIGHUP changes the levels of the log")
def reload_levels(context):
    broker = configured(context, "[log]\nlevel = 'info'\n")
    broker.connect().close()
    rewrite(context, "[log]\nlevel = 'debug'\n")
    broker.reload("setting changed: in use from now on")
    assert "DEBUG" not in broker.log, broker.log
    broker.connect().close()
    eventually(lambda: "closed by the client" in broker.log, "a debug line")
    rewrite(context, "[log]\nlevel = 'debug'\n[log.levels]\nconnection = 'off'\n")
    broker.reload("setting changed: in use from now on")
    before = broker.log.count("haremq::connection")
    broker.connect().close()
    broker.stop()
    equal(broker.log.count("haremq::connection"), before, "lines of connections while they are off")


@test("SIGHUP changes limits for new connections and leaves the old ones theirs")
def reload_limits(context):
    broker = configured(context, "[limits]\nmessage_bytes_max = 100\n")
    old = broker.connect()
    rewrite(context, "[limits]\nmessage_bytes_max = 50\nheartbeat_s = 9\nchannel_max = 12\n")
    broker.reload("setting changed: in use from now on")
    new = broker.connect(channel_max=12)
    equal((new.tune.heartbeat, new.tune.channel_max), (9, 12), "offer")
    for connection, limit in (old, 100), (new, 50):
        channel = connection.channel()
        channel.call("confirm.select")
        channel.publish("", "nowhere", b"x" * limit)
        channel.wait("basic.ack")
        channel.publish("", "nowhere", b"x" * (limit + 1))
        with refused("channel", 406, "message size %d is larger than configured max size %d" % (limit + 1, limit)):
            channel.wait("basic.ack")
        connection.close()


@test("SIGHUP says what needs a restart and what nothing changed")
def reload_restart(context):
    broker = configured(context, "")
    broker.reload("settings read again: nothing changed")
    rewrite(context, "backlog = 7\n[auth]\nmechanisms = ['PLAIN']\n[first_boot]\ndefault_user = 'late'\n"
                     "[limits]\nheartbeat_s = 3\n")
    broker.reload("in use from the next start on")
    lines = [line for line in broker.log.splitlines() if "setting changed" in line]
    equal(len(lines), 4, "changes in\n" + broker.log)
    for key, outcome in [("listen.backlog", "in use from the next start on"),
                         ("auth.mechanisms", "in use from the next start on"),
                         ("limits.heartbeat_s", "from now on"), ("first_boot.default_user", "without effect")]:
        assert any(key in line and outcome in line for line in lines), (key, lines)
    equal(broker.connect().start.mechanisms, b"PLAIN AMQPLAIN ANONYMOUS", "mechanisms")


@test("SIGHUP with a broken or missing file keeps every setting and says so")
def reload_broken(context):
    broker = configured(context, "[limits]\nheartbeat_s = 5\n")
    for text in ("[limits]\nheartbeat_s = 'x'\n", "[limits\n", "[limits]\nheartbeat_ss = 1\nchannel_max = 1\n"):
        rewrite(context, text)
        broker.reload("the settings stay as they are")
        equal(broker.connect().tune.heartbeat, 5, "heartbeat offered")
    os.remove(context.path("c.toml"))
    broker.reload("cannot read the configuration file")
    connection = broker.connect()
    equal((connection.tune.heartbeat, connection.tune.channel_max), (5, 2047), "offer")
    rewrite(context, "[limits]\nheartbeat_s = 6\n")
    broker.reload("setting changed: in use from now on")
    equal(broker.connect().tune.heartbeat, 6, "heartbeat offered")


@test("SIGHUP without a file changes nothing, and ten at once do no harm")
def reload_without_file(context):
    broker = context.broker()
    for _ in range(10):
        broker.signal(signal.SIGHUP)
    broker.reload("settings read again: nothing changed")
    broker.connect().close()
    broker.stop()


@test("nothing that a client sends makes a line of the log or moves a terminal's cursor")
def forged_lines(context):
    broker = context.broker("--log-level", "debug")
    forged = "x\n2026-01-01T00:00:00Z ERROR haremq: forged\r\x1b[31m\x07"
    try:
        broker.connect(user=forged, password="x", capabilities=["authentication_failure_close"])
    except Closed as closed:
        equal(closed.code, 403, "code")
    connection = broker.connect(properties={"connection_name": forged})
    with refused("connection", 530, "attempt to reuse consumer tag '%s'" % forged):
        channel = connection.channel()
        channel.declare("q")
        channel.call("basic.consume", queue="q", tag=forged)
        channel.call("basic.consume", queue="q", tag=forged)
    with refused("connection", 530, "vhost %s not found" % forged):
        broker.connect(vhost=forged)
    broker.stop()
    contains(broker.log, "forged", "log")
    for line in broker.log.split("\n"):
        assert not line or line[:2] == "20" and "ERROR haremq: forged" not in line[:50], "a forged line: " + line
        assert not any(ord(letter) < 32 for letter in line), "control characters: %r" % line
