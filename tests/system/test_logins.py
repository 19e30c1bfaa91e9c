"""The first boot, and logging in: who exists, from where, by which mechanism, and how a refusal looks."""

import os

from amqp import PROTOCOL_HEADER, Connection, Wire, amqplain, plain
from harness import Closed, Gone, Skip, contains, equal, other_address, permission, refused, test, user

# Those who cannot hear a refusal see the socket close after this time.
IMPATIENT = {"HAREMQ_TIMEOUTS_CLOSE_MS": "100"}
CAPABLE = ["authentication_failure_close"]
CAPABILITIES = ["authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify",
                "consumer_priorities", "direct_reply_to", "exchange_exchange_bindings", "per_consumer_qos",
                "publisher_confirms"]


def refusal_text(mechanism="PLAIN"):
    return ("Login was refused using authentication mechanism %s. For details see the broker logfile." % mechanism)


def is_refused(port, **options):
    """The login must be refused, in words to a client that can hear them and by the socket to others."""
    mechanism = options.get("mechanism", "PLAIN")
    with refused("connection", 403, refusal_text(mechanism)):
        Connection(port, capabilities=CAPABLE, **options)
    try:
        Connection(port, **options)
    except Gone:
        return
    except Closed as closed:
        raise AssertionError("told a client that cannot hear it: %s" % closed) from None
    raise AssertionError("logged in")


@test("guest, vhost / and the administrator's rights are there after the first boot")
def guest(context):
    broker = context.broker()
    connection = broker.connect()
    channel = connection.channel()
    channel.declare("q")
    channel.call("queue.bind", queue="q", exchange="amq.topic", routing_key="a.#")
    properties = connection.start.properties
    equal(list(properties), ["capabilities", "cluster_name", "copyright", "information", "platform", "product",
                             "version"], "server properties")
    equal(sorted(properties["capabilities"].items()), [(name, True) for name in CAPABILITIES], "capabilities")
    equal((properties["product"], properties["version"]), ("RabbitMQ", "4.2.5"), "product and version")
    contains(properties["information"], "HareMQ", "information")
    equal((connection.start.mechanisms, connection.start.locales), (b"PLAIN AMQPLAIN ANONYMOUS", b"en_US"), "offer")
    equal((connection.tune.channel_max, connection.tune.frame_max, connection.tune.heartbeat), (2047, 131072, 60),
          "tune")


@test("RABBITMQ_DEFAULT_USER, _PASS and _VHOST make the first user, without guest, once")
def first_boot(context):
    first = {"RABBITMQ_DEFAULT_USER": "ann", "RABBITMQ_DEFAULT_PASS": "s3cret", "RABBITMQ_DEFAULT_VHOST": "shop"}
    broker = context.broker(environment=first)
    broker.connect(user="ann", password="s3cret", vhost="shop").channel().declare("q")
    is_refused(broker.port)
    is_refused(broker.port, user="guest", password="s3cret")
    with refused("connection", 530, "vhost / not found"):
        broker.connect(user="ann", password="s3cret")
    assert "s3cret" not in broker.log, "the password is in the log"
    broker.stop()
    second = {"RABBITMQ_DEFAULT_USER": "bob", "RABBITMQ_DEFAULT_PASS": "other", "RABBITMQ_DEFAULT_VHOST": "other"}
    broker = context.broker(environment=second)
    broker.connect(user="ann", password="s3cret", vhost="shop").channel().declare("q", passive=True)
    is_refused(broker.port, user="bob", password="other")
    with refused("connection", 530, "vhost other not found"):
        broker.connect(user="ann", password="s3cret", vhost="other")
    broker.stop()
    for root, _, files in os.walk(context.path("data")):
        for file in files:
            with open(os.path.join(root, file), "rb") as content:
                assert b"s3cret" not in content.read(), "the password is in " + file


@test("guest comes from loopback only, others from everywhere")
def loopback_only(context):
    address = other_address()
    file = context.write("defs.json", {
        "users": [user("guest", "guest"), user("ann")], "vhosts": [{"name": "/"}],
        "permissions": [permission("guest"), permission("ann")]})
    broker = context.spawn("--data-dir", "data", "--amqp", "0.0.0.0:0", "--http", "0.0.0.0:0", "--load-definitions",
                           file, environment=IMPATIENT).until_ready()
    broker.connect().close()
    broker.connect(host="127.0.0.9").close()
    is_refused(broker.port, host=address)
    is_refused(broker.port, host=address, mechanism="ANONYMOUS", response=b"")
    contains(broker.log, "user 'guest' can only connect via localhost", "log")
    broker.connect(user="ann", password="pw", host=address).close()
    broker.stop()
    broker = context.spawn("--data-dir", "data", "--amqp", "0.0.0.0:0", "--http", "none",
                           environment={"HAREMQ_AUTH_LOOPBACK_USERS": "none"}).until_ready()
    broker.connect(host=address).close()


@test("a wrong name, a wrong password and a blank one are refused alike")
def wrong_password(context):
    broker = context.broker(environment=IMPATIENT)
    for name, password in [("guest", "wrong"), ("nobody", "guest"), ("guest", ""), ("", ""), ("Guest", "guest"),
                           ("g\u00fcst", "guest"), ("x" * 300, "y" * 300)]:
        is_refused(broker.port, user=name, password=password)
    contains(broker.log, "user 'nobody' - invalid credentials", "log")
    contains(broker.log, "attempted to log in with a blank password, which is prohibited", "log")
    broker.connect().close()


@test("AMQPLAIN and ANONYMOUS log in, and what is not offered closes the socket")
def mechanisms(context):
    broker = context.broker(environment=IMPATIENT)
    broker.connect(mechanism="AMQPLAIN", response=amqplain("guest", "guest")).close()
    broker.connect(mechanism="ANONYMOUS", response=b"anything").close()
    is_refused(broker.port, mechanism="AMQPLAIN", response=amqplain("guest", "wrong"))
    for mechanism, response in [("EXTERNAL", b""), ("plain", plain("guest", "guest")), ("", b""),
                                ("PLAIN", b"guest"), ("PLAIN", b""), ("PLAIN", plain("guest", "guest\x00")),
                                ("AMQPLAIN", b"\x05LOGIN"), ("AMQPLAIN", b"\xff" * 9)]:
        try:
            broker.connect(mechanism=mechanism, response=response, capabilities=CAPABLE)
        except Gone:
            continue
        raise AssertionError("logged in by %s %r" % (mechanism, response))
    contains(broker.log, "unknown authentication mechanism 'EXTERNAL'", "log")
    broker.stop()
    broker = context.broker(environment={"HAREMQ_AUTH_MECHANISMS": "PLAIN,ANONYMOUS",
                                         "HAREMQ_AUTH_ANONYMOUS_LOGIN_USER": "none"})
    equal(broker.connect().start.mechanisms, b"PLAIN", "mechanisms when nobody is anonymous")


@test("a refused client that does not answer the close is dropped")
def stubborn_refused(context):
    broker = context.broker(environment=IMPATIENT)
    wire = Wire(broker.port)
    wire.send(PROTOCOL_HEADER)
    wire.expect("connection.start")
    wire.method(0, "connection.start-ok", properties={"capabilities": {"authentication_failure_close": True}},
                mechanism="PLAIN", response=plain("guest", "no"), locale="en_US")
    close = wire.expect("connection.close")
    equal((close.code, close.text, close.class_id, close.method_id),
          (403, "ACCESS_REFUSED - " + refusal_text(), 0, 0), "close")
    equal(wire.rest(), b"", "bytes after the close")


@test("capabilities that are no table count as none")
def odd_capabilities(context):
    broker = context.broker(environment=IMPATIENT)
    for capabilities in ("authentication_failure_close", 1, [True], {"authentication_failure_close": 1}):
        wire = Wire(broker.port)
        wire.send(PROTOCOL_HEADER)
        wire.expect("connection.start")
        wire.method(0, "connection.start-ok", properties={"capabilities": capabilities}, mechanism="PLAIN",
                    response=plain("guest", "no"), locale="en_US")
        equal(wire.rest(), b"", "bytes to a client without capabilities")


@test("update-secret is accepted whatever the secret, as for every user without an expiring login")
def update_secret(context):
    broker = context.broker()
    connection = broker.connect()
    channel = connection.channel()
    channel.declare("q")
    channel.call("basic.consume", queue="q", tag="c", no_ack=True)
    for secret in ("guest", "another"):
        connection.method(0, "connection.update-secret", secret=secret, reason="renewal")
        connection.wait(0, "connection.update-secret-ok")
        channel.publish("", "q", b"still here")
        equal(channel.wait("basic.deliver").body, b"still here", "body")


@test("wrong tuning is 530 with RabbitMQ's texts")
def tuning(context):
    broker = context.broker()
    for options, text in [
            ({"frame_max": 4096}, "negotiated frame_max = 4096 is lower than the minimum allowed value (8192)"),
            ({"frame_max": 131073},
             "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
            ({"channel_max": 2048}, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"),
            ({"channel_max": 0},
             "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)")]:
        with refused("connection", 530, text):
            broker.connect(**options)
    connection = broker.connect(channel_max=2, frame_max=8192)
    connection.channel()
    connection.channel()
    with refused("connection", 530, "number of channels opened (2) has reached the negotiated channel_max (2)"):
        connection.channel()


@test("the node's limit of connections is 530")
def node_limit(context):
    broker = context.broker(environment={"HAREMQ_LIMITS_CONNECTIONS_MAX": "2"})
    first, second = broker.connect(), broker.connect()
    with refused("connection", 530, "connection refused: node connection limit (2) is reached"):
        broker.connect()
    second.close()
    broker.connect().close()
    first.close()


@test("a connection that is reached over IPv6 works, and guest is local there")
def ipv6(context):
    try:
        broker = context.spawn("--data-dir", "data", "--amqp", "[::1]:0", "--http", "none").until_ready()
    except AssertionError as error:
        if "no such address" in str(error):
            raise Skip("this machine has no ::1") from None
        raise
    broker.connect(host="::1").channel().declare("q")
