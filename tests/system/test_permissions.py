"""Permissions and limits over AMQP: what a user may do, in RabbitMQ's words."""

from harness import permission, refused, test, equal, user

DOCUMENT = {
    "users": [user("all"), user("part"), user("topics"), user("none"), user("two", limits={
        "max-connections": 2, "max-channels": 3})],
    "vhosts": [{"name": "/"}, {"name": "small"}, {"name": "quorum", "default_queue_type": "quorum"},
               {"name": "classic", "metadata": {"default_queue_type": "classic"}}],
    "permissions": [permission("all"), permission("all", vhost="small"), permission("all", vhost="quorum"),
                    permission("all", vhost="classic"), permission("two"), permission("topics"),
                    permission("part", configure="^c-", write="^(w-|amq\\.default)", read="^r-"),
                    permission("none", configure="", write="", read="", vhost="small")],
    "topic_permissions": [
        {"user": "topics", "vhost": "/", "exchange": "amq.topic", "write": "^{username}\\.", "read": "^news\\."}],
    "parameters": [{"component": "vhost-limits", "vhost": "small", "name": "limits",
                    "value": {"max-connections": 2, "max-queues": 2}}]}


def loaded(context):
    return context.broker("--load-definitions", context.write("defs.json", DOCUMENT))


def attempt(connection, text, method, **values):
    """One method on a channel of its own, refused with 403."""
    with refused("channel", 403, text + " refused for user 'part'"):
        connection.channel().call(method, **values)


@test("connection.open needs a permission in the vhost")
def vhost_access(context):
    broker = loaded(context)
    with refused("connection", 530, "access to vhost 'small' refused for user 'part'"):
        broker.connect(user="part", password="pw", vhost="small")
    with refused("connection", 530, "vhost gone not found"):
        broker.connect(user="part", password="pw", vhost="gone")
    with refused("connection", 530, "vhost /small not found"):
        broker.connect(user="all", password="pw", vhost="/small")
    channel = broker.connect(user="none", password="pw", vhost="small").channel()
    with refused("channel", 403, "configure access to queue 'q' in vhost 'small' refused for user 'none'"):
        channel.declare("q")


@test("configure, write and read are asked for with 403 before existence")
def three_rights(context):
    broker = loaded(context)
    owner = broker.connect(user="all", password="pw").channel()
    for name in ("c-q", "w-q", "r-q", "x-q"):
        owner.declare(name)
    for name in ("c-e", "w-e", "r-e", "x-e"):
        owner.call("exchange.declare", exchange=name, type="fanout", durable=True)
    part = broker.connect(user="part", password="pw")
    queue, exchange = "%s access to queue '%s' in vhost '/'", "%s access to exchange '%s' in vhost '/'"
    for name in ("w-q", "none"):
        attempt(part, queue % ("configure", name), "queue.declare", queue=name, durable=True)
        attempt(part, queue % ("configure", name), "queue.delete", queue=name)
    attempt(part, exchange % ("configure", "w-e"), "exchange.declare", exchange="w-e", type="fanout", durable=True)
    attempt(part, exchange % ("configure", "none"), "exchange.delete", exchange="none")
    attempt(part, queue % ("write", "r-q"), "queue.bind", queue="r-q", exchange="r-e")
    attempt(part, exchange % ("read", "w-e"), "queue.bind", queue="w-q", exchange="w-e")
    attempt(part, queue % ("write", "none"), "queue.unbind", queue="none", exchange="none")
    attempt(part, exchange % ("write", "r-e"), "exchange.bind", destination="r-e", source="r-e")
    attempt(part, exchange % ("read", "w-e"), "exchange.bind", destination="w-e", source="w-e")
    for method in ("queue.purge", "basic.consume", "basic.get"):
        attempt(part, queue % ("read", "w-q"), method, queue="w-q")
        attempt(part, queue % ("read", "none"), method, queue="none")
    attempt(part, queue % ("configure", "none"), "queue.declare", queue="none", exclusive=True)
    with refused("channel", 403, "write access to exchange 'r-e' in vhost '/' refused for user 'part'"):
        channel = part.channel()
        channel.publish("r-e", "")
        channel.wait("basic.ack")
    channel = part.channel()
    channel.call("confirm.select")
    equal(channel.is_routed("w-e", ""), False, "routed without a binding")
    channel.call("queue.bind", queue="w-q", exchange="r-e")
    channel.call("queue.unbind", queue="w-q", exchange="r-e")
    channel.call("exchange.bind", destination="w-e", source="r-e")
    channel.declare("c-new")
    channel.call("basic.consume", queue="r-q", tag="c")
    channel.call("queue.delete", queue="c-q")
    equal(channel.is_routed("", "x-q"), True, "routed by the default exchange, to which he may write")


@test("any right on a resource is enough for a passive declare, none is 403")
def passive(context):
    broker = loaded(context)
    owner = broker.connect(user="all", password="pw").channel()
    for name in ("c-q", "w-q", "r-q", "x-q"):
        owner.declare(name)
    part = broker.connect(user="part", password="pw")
    for name in ("c-q", "w-q", "r-q"):
        part.channel().declare(name, passive=True)
    with refused("channel", 404, "no queue 'r-gone' in vhost '/'"):
        part.channel().declare("r-gone", passive=True)
    for name in ("x-q", "x-gone"):
        try:
            part.channel().declare(name, passive=True)
        except Exception as error:
            equal(getattr(error, "code", error), 403, "code")
        else:
            raise AssertionError("declared " + name)


@test("a dead-letter exchange needs read on the queue and write on the exchange, an alternate one likewise")
def dead_letter_rights(context):
    part = loaded(context).connect(user="part", password="pw")
    attempt(part, "read access to queue 'c-q' in vhost '/'", "queue.declare", queue="c-q", durable=True,
            arguments={"x-dead-letter-exchange": "w-e"})
    attempt(part, "read access to exchange 'c-e' in vhost '/'", "exchange.declare", exchange="c-e", type="fanout",
            arguments={"alternate-exchange": "w-e"})


@test("topic permissions check the routing key of publishes and bindings, with the user's name in the pattern")
def topics(context):
    broker = loaded(context)
    connection = broker.connect(user="topics", password="pw")
    channel = connection.channel()
    channel.call("confirm.select")
    channel.declare("q")
    channel.call("queue.bind", queue="q", exchange="amq.topic", routing_key="news.#")
    equal(channel.is_routed("amq.topic", "topics.x"), False, "routed")
    equal(channel.is_routed("amq.direct", "anything"), False, "routed by an exchange that is none of topics")
    with refused("channel", 403,
                 "write access to topic 'news.x' in exchange 'amq.topic' in vhost '/' refused for user 'topics'"):
        channel.is_routed("amq.topic", "news.x")
    with refused("channel", 403,
                 "read access to topic 'topics.#' in exchange 'amq.topic' in vhost '/' refused for user 'topics'"):
        connection.channel().call("queue.bind", queue="q", exchange="amq.topic", routing_key="topics.#")


@test("the limits of a vhost: connections are 530, queues are 406")
def vhost_limits(context):
    broker = loaded(context)
    first, second = (broker.connect(user="all", password="pw", vhost="small") for _ in range(2))
    with refused("connection", 530,
                 "access to vhost 'small' refused for user 'all': connection limit (2) is reached"):
        broker.connect(user="all", password="pw", vhost="small")
    second.close()
    second = broker.connect(user="all", password="pw", vhost="small")
    first.channel().declare("one")
    second.channel().declare("two", exclusive=True)
    text = "cannot declare queue 'three': queue limit in vhost 'small' (2) is reached"
    with refused("channel", 406, text):
        first.channel().declare("three")
    first.channel().declare("one")
    second.close()
    first.channel().declare("three")


@test("the limits of a user: connections and channels are 530")
def user_limits(context):
    broker = loaded(context)
    first, second = (broker.connect(user="two", password="pw") for _ in range(2))
    with refused("connection", 530, "connection refused for user 'two': user connection limit (2) is reached"):
        broker.connect(user="two", password="pw")
    first.channel()
    second.channel()
    kept = second.channel()
    with refused("connection", 530,
                 "number of channels opened for user 'two' has reached the maximum allowed user limit of 3"):
        first.channel()
    kept.declare("q")
    kept.call("channel.close", code=200, text="")
    second.channel()


@test("a vhost's default queue type holds for queues that do not say")
def default_queue_type(context):
    broker = loaded(context)
    channel = broker.connect(user="all", password="pw", vhost="quorum").channel()
    channel.declare("q")
    channel.declare("q", arguments={"x-queue-type": "quorum"})
    classic = broker.connect(user="all", password="pw", vhost="quorum").channel()
    classic.declare("c", arguments={"x-queue-type": "classic", "x-max-priority": 3})
    with refused("channel", 406, "invalid arg 'x-max-priority' for queue 'p' in vhost 'quorum' of queue type "
                                 "rabbit_quorum_queue"):
        classic.declare("p", arguments={"x-max-priority": 3})
    channel.declare("mine", exclusive=True)
    channel.declare("passing", durable=False, auto_delete=True)
    channel = broker.connect(user="all", password="pw", vhost="classic").channel()
    channel.declare("p", arguments={"x-max-priority": 3})
    channel.declare("p", arguments={"x-max-priority": 3, "x-queue-type": "classic"})
