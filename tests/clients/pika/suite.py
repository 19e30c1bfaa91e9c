"""pika: the blocking connection over every method class, and what its exceptions make of the broker's errors."""

import datetime
import decimal
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import pika
from pika import exceptions, spec
from checks import PARTS, Skip, URI, check, eventually, name, restart_broker, run_all, same

ACCESS_REFUSED = ("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
                  "For details see the broker logfile.")
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def parameters(**changes):
    made = pika.URLParameters(URI)
    for key, value in changes.items():
        setattr(made, key, value)
    return made


class session:
    """A connection with one channel, closed at the end of the block if it still lives."""

    def __init__(self, **changes):
        self.changes = changes

    def __enter__(self):
        self.connection = pika.BlockingConnection(parameters(**self.changes))
        return self.connection, self.connection.channel()

    def __exit__(self, *_):
        if self.connection.is_open:
            self.connection.close()


def fresh_queue(channel, suffix, **arguments):
    queue = name(suffix)
    channel.queue_declare(queue, durable=True, arguments={k.replace("_", "-"): v for k, v in arguments.items()})
    return queue


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def get(channel, queue, auto_ack=True):
    """The next message, waited for."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        method, properties, body = channel.basic_get(queue, auto_ack=auto_ack)
        if method is not None:
            return method, properties, body
        time.sleep(0.02)
    raise AssertionError("no message in %s" % queue)


def nothing_in(channel, queue):
    same(channel.basic_get(queue)[0], None)


def channel_error(connection, code, text, action):
    """`action` on a fresh channel must close that channel with this code and full text, and spare the connection."""
    channel = connection.channel()
    try:
        action(channel)
    except exceptions.ChannelClosedByBroker as closed:
        same((closed.reply_code, closed.reply_text), (code, text))
    else:
        raise AssertionError("no error, wanted %d %s" % (code, text))
    same(connection.is_open, True)


def connection_error(code, text, action):
    with session() as (connection, channel):
        try:
            action(connection, channel)
        except exceptions.ConnectionClosedByBroker as closed:
            same((closed.reply_code, closed.reply_text), (code, text))
        else:
            raise AssertionError("no error, wanted %d %s" % (code, text))


# ------------------------------------------------------------- connecting

@check
def wrong_password_is_an_authentication_error():
    try:
        pika.BlockingConnection(parameters(credentials=pika.PlainCredentials(PARTS.username, "wrong")))
    except exceptions.ProbableAuthenticationError as error:
        same(ACCESS_REFUSED in str(error) and "403" in str(error), True)
    else:
        raise AssertionError("logged in with a wrong password")


@check
def missing_vhost_is_refused_with_530():
    try:
        pika.BlockingConnection(parameters(virtual_host="interop-none"))
    except exceptions.ProbableAccessDeniedError as error:
        same("(530) 'NOT_ALLOWED - vhost interop-none not found'" in str(error), True)
    else:
        raise AssertionError("opened a vhost that does not exist")


@check
def server_announces_what_pika_relies_on():
    with session() as (connection, _):
        properties = connection._impl.server_properties
        same(properties["product"], "RabbitMQ")
        same(int(properties["version"].split(".")[0]) >= 3, True)
        for flag in ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "exchange_exchange_bindings"):
            same(properties["capabilities"][flag], True)
        same(connection.publisher_confirms_supported and connection.basic_nack_supported
             and connection.consumer_cancel_notify_supported, True)


@check
def frame_max_below_the_floor_is_refused():
    try:
        pika.BlockingConnection(parameters(frame_max=4096))
    except exceptions.ProbableAccessDeniedError as error:
        # pika's guess at the reason of any close before connection.open-ok.
        same("(530) 'NOT_ALLOWED - negotiated frame_max = 4096 is lower than the minimum allowed value (8192)'"
             in str(error), True)
    else:
        raise AssertionError("frame_max 4096 was accepted")


@check
def opening_one_channel_too_many_is_refused_by_the_negotiated_limit():
    with session(channel_max=3) as (connection, _):
        connection.channel()
        connection.channel()
        try:
            connection.channel()
        except exceptions.NoFreeChannels:
            pass
        else:
            raise AssertionError("a fourth channel with channel_max 3")


@check
def channel_closes_and_its_number_is_used_again():
    with session() as (connection, channel):
        number = channel.channel_number
        channel.close()
        again = connection.channel(number)
        again.queue_declare(name("number"), exclusive=True)


# ------------------------------------------------------------- publishing and consuming

@check
def consume_and_acknowledge():
    with session() as (_, channel):
        queue = fresh_queue(channel, "ack")
        for number in range(10):
            channel.basic_publish("", queue, b"m%d" % number, PERSISTENT)
        got = []
        for method, properties, body in channel.consume(queue, inactivity_timeout=5):
            same(method is not None, True)
            same((method.redelivered, method.exchange, method.routing_key), (False, "", queue))
            same(properties.delivery_mode, 2)
            got.append(body)
            channel.basic_ack(method.delivery_tag)
            if len(got) == 10:
                break
        channel.cancel()
        same(got, [b"m%d" % number for number in range(10)])
        eventually(lambda: ready(channel, queue), 0)
        channel.queue_delete(queue)


@check
def acknowledge_multiple_and_requeue_on_close():
    with session() as (connection, channel):
        queue = fresh_queue(channel, "multiple")
        for number in range(5):
            channel.basic_publish("", queue, b"%d" % number)
        tags = [get(channel, queue, auto_ack=False)[0].delivery_tag for _ in range(5)]
        same(tags, [1, 2, 3, 4, 5])
        channel.basic_ack(3, multiple=True)
        channel.close()
        other = connection.channel()
        eventually(lambda: ready(other, queue), 2)
        left = [get(other, queue) for _ in range(2)]
        same([(body, method.redelivered) for method, _, body in left], [(b"3", True), (b"4", True)])
        other.queue_delete(queue)


@check
def nack_and_reject_requeue_or_discard():
    with session() as (_, channel):
        queue = fresh_queue(channel, "nack")
        channel.basic_publish("", queue, b"one")
        method, _, _ = get(channel, queue, auto_ack=False)
        same(method.redelivered, False)
        channel.basic_nack(method.delivery_tag, requeue=True)
        method, _, _ = get(channel, queue, auto_ack=False)
        same(method.redelivered, True)
        channel.basic_reject(method.delivery_tag, requeue=True)
        method, _, _ = get(channel, queue, auto_ack=False)
        channel.basic_reject(method.delivery_tag, requeue=False)
        nothing_in(channel, queue)
        same(ready(channel, queue), 0)
        channel.queue_delete(queue)


@check
def recover_requeues_what_is_unacknowledged():
    with session() as (_, channel):
        queue = fresh_queue(channel, "recover")
        channel.basic_publish("", queue, b"one")
        get(channel, queue, auto_ack=False)
        channel.basic_recover(requeue=True)
        method, _, body = get(channel, queue)
        same((method.redelivered, body), (True, b"one"))
        channel.queue_delete(queue)


def deliveries_of(channel, queue, seconds=0.4):
    """Collects deliveries of a new consumer into the returned list."""
    got = []
    channel.basic_consume(queue, lambda _c, method, _p, body: got.append((method.delivery_tag, body)))
    channel.connection.sleep(seconds)
    return got


@check
def prefetch_limits_one_consumer():
    with session() as (connection, channel):
        queue = fresh_queue(channel, "prefetch")
        for number in range(9):
            channel.basic_publish("", queue, b"%d" % number)
        channel.basic_qos(prefetch_count=3)
        got = deliveries_of(channel, queue)
        same([body for _, body in got], [b"0", b"1", b"2"])
        channel.basic_ack(got[1][0], multiple=True)
        connection.sleep(0.4)
        same([body for _, body in got], [b"0", b"1", b"2", b"3", b"4"])
        channel.queue_delete(queue)


@check
def global_prefetch_is_shared_by_the_channel_and_can_be_raised():
    with session() as (connection, channel):
        first, second = fresh_queue(channel, "global1"), fresh_queue(channel, "global2")
        for number in range(5):
            channel.basic_publish("", first, b"%d" % number)
            channel.basic_publish("", second, b"%d" % number)
        channel.basic_qos(prefetch_count=2, global_qos=True)
        got = deliveries_of(channel, first)
        more = deliveries_of(channel, second)
        same(len(got) + len(more), 2)
        channel.basic_qos(prefetch_count=5, global_qos=True)
        connection.sleep(0.4)
        same(len(got) + len(more), 5)
        channel.queue_delete(first)
        channel.queue_delete(second)


@check
def basic_get_counts_what_is_left():
    with session() as (_, channel):
        queue = fresh_queue(channel, "get")
        nothing_in(channel, queue)
        for number in range(3):
            channel.basic_publish("", queue, b"%d" % number)
        eventually(lambda: ready(channel, queue), 3)
        method, _, body = channel.basic_get(queue, auto_ack=True)
        same((method.message_count, body, method.redelivered), (2, b"0", False))
        same(channel.queue_purge(queue).method.message_count, 2)
        same(channel.queue_delete(queue).method.message_count, 0)


@check
def all_properties_come_back():
    with session() as (_, channel):
        queue = fresh_queue(channel, "properties")
        sent = dict(content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=7,
                    correlation_id="c-1", reply_to="somewhere", expiration="60000", message_id="m-1",
                    timestamp=1700000000, type="kind", user_id=PARTS.username, app_id="app", cluster_id="cluster")
        channel.basic_publish("", queue, b"", pika.BasicProperties(**sent))
        _, properties, body = get(channel, queue)
        same({key: getattr(properties, key) for key in sent}, sent)
        same(body, b"")
        channel.queue_delete(queue)


@check
def all_table_types_come_back():
    with session() as (_, channel):
        queue = fresh_queue(channel, "table")
        headers = {
            "bool": True, "false": False, "int": -5, "long": 2 ** 40, "negative long": -(2 ** 40),
            "decimal": decimal.Decimal("3.14"), "time": datetime.datetime(2024, 2, 29, 12, 30, 15, tzinfo=datetime.timezone.utc),
            "text": "häre", "empty": "", "bytes": b"\x00\xff", "void": None,
            "array": [1, "two", [3, None], {"four": 4}], "table": {"inner": {"deep": [True]}}, "no items": [],
            "no entries": {},
        }
        channel.basic_publish("", queue, b"x", pika.BasicProperties(headers=headers))
        _, properties, _ = get(channel, queue)
        got = properties.headers
        same(set(got), set(headers))
        for key, value in headers.items():
            same((key, got[key], isinstance(got[key], type(value))), (key, value, True))
        channel.queue_delete(queue)


@check
def large_body_crosses_in_many_frames():
    body = os.urandom(1 << 20) * 5
    for frame_max in (131072, 8192):
        with session(frame_max=frame_max) as (_, channel):
            queue = fresh_queue(channel, "large")
            channel.confirm_delivery()
            channel.basic_publish("", queue, body, PERSISTENT)
            _, _, got = get(channel, queue)
            same((len(got), got == body), (len(body), True))
            channel.queue_delete(queue)


@check
def server_named_queue_and_the_last_declared_shortcut():
    with session() as (_, channel):
        queue = channel.queue_declare("", exclusive=True).method.queue
        same((queue.startswith("amq.gen-"), len(queue)), (True, len("amq.gen-") + 22))
        channel.queue_bind("", "amq.direct", "shortcut")
        channel.basic_publish("amq.direct", "shortcut", b"x")
        same(get(channel, queue)[2], b"x")


@check
def server_named_consumer_tag():
    with session() as (connection, channel):
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel._impl.basic_consume(queue, lambda *_: None, consumer_tag="chosen")
        connection.sleep(0.2)
        same(channel.queue_declare(queue, passive=True, exclusive=True).method.consumer_count, 1)


# ------------------------------------------------------------- confirms and transactions

@check
def confirms_return_before_the_ack_and_nack_on_overflow():
    with session() as (_, channel):
        queue = fresh_queue(channel, "confirm", x_max_length=1, x_overflow="reject-publish")
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"fits", PERSISTENT, mandatory=True)
        try:
            channel.basic_publish("", name("nowhere"), b"lost", mandatory=True)
        except exceptions.UnroutableError as error:
            returned, = error.messages
            same((returned.method.reply_code, returned.method.reply_text, returned.method.exchange,
                  returned.method.routing_key, returned.body), (312, "NO_ROUTE", "", name("nowhere"), b"lost"))
        else:
            raise AssertionError("a mandatory message to nowhere was confirmed without return")
        channel.basic_publish("", name("nowhere"), b"lost")
        try:
            channel.basic_publish("", queue, b"too much", PERSISTENT, mandatory=True)
        except exceptions.NackError:
            pass
        else:
            raise AssertionError("a message over x-max-length was confirmed")
        same([get(channel, queue)[2]], [b"fits"])
        nothing_in(channel, queue)
        channel.queue_delete(queue)


@check
def transaction_commits_and_rolls_back():
    with session() as (connection, channel):
        queue = fresh_queue(channel, "tx")
        watcher = connection.channel()
        channel.tx_select()
        channel.basic_publish("", queue, b"dropped")
        channel.tx_rollback()
        channel.basic_publish("", queue, b"kept")
        same(ready(watcher, queue), 0)
        channel.tx_commit()
        eventually(lambda: ready(watcher, queue), 1)
        method, _, body = get(channel, queue, auto_ack=False)
        same(body, b"kept")
        channel.basic_ack(method.delivery_tag)
        channel.tx_rollback()
        channel.basic_ack(method.delivery_tag)
        channel.tx_commit()
        channel.close()
        same(ready(watcher, queue), 0)
        watcher.queue_delete(queue)


@check
def rolled_back_acknowledgement_leaves_the_message():
    with session() as (connection, channel):
        queue = fresh_queue(channel, "tx-ack")
        channel.basic_publish("", queue, b"one")
        channel.tx_select()
        method, _, _ = get(channel, queue, auto_ack=False)
        channel.basic_ack(method.delivery_tag)
        channel.tx_rollback()
        channel.close()
        other = connection.channel()
        method, _, body = get(other, queue)
        same((body, method.redelivered), (b"one", True))
        other.queue_delete(queue)


# ------------------------------------------------------------- RPC

@check
def rpc_by_direct_reply_to():
    with session() as (client_connection, client), session() as (_, server):
        requests = fresh_queue(server, "rpc")

        def answer(channel, _method, properties, body):
            channel.basic_publish("", properties.reply_to, body.upper(),
                                  pika.BasicProperties(correlation_id=properties.correlation_id))

        answers = []
        client.basic_consume("amq.rabbitmq.reply-to",
                             lambda _c, method, properties, body: answers.append((properties.correlation_id, body)),
                             auto_ack=True)
        client.basic_publish("", requests, b"ping",
                             pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7"))
        method, properties, body = get(server, requests)
        same(properties.reply_to.startswith("amq.rabbitmq.reply-to.") and
             len(properties.reply_to) > len("amq.rabbitmq.reply-to."), True)
        answer(server, method, properties, body)
        deadline = time.monotonic() + 5
        while not answers and time.monotonic() < deadline:
            client_connection.process_data_events(0.1)
        same(answers, [("7", b"PING")])
        server.queue_delete(requests)


@check
def direct_reply_to_without_a_consumer_is_406():
    with session() as (connection, _):
        def publish(channel):
            channel.basic_publish("", name("rpc-none"), b"", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
            channel.queue_declare("", exclusive=True)
        channel_error(connection, 406, "PRECONDITION_FAILED - fast reply consumer does not exist", publish)


@check
def rpc_by_a_reply_queue_of_ones_own():
    with session() as (_, client), session() as (_, server):
        requests = fresh_queue(server, "rpc2")
        replies = client.queue_declare("", exclusive=True).method.queue
        client.basic_publish("", requests, b"ping", pika.BasicProperties(reply_to=replies, correlation_id="8"))
        _, properties, body = get(server, requests)
        server.basic_publish("", properties.reply_to, body.upper(),
                             pika.BasicProperties(correlation_id=properties.correlation_id))
        _, properties, body = get(client, replies)
        same((properties.correlation_id, body), ("8", b"PING"))
        server.queue_delete(requests)


# ------------------------------------------------------------- exchanges

def routed(channel, exchange, queues, sends):
    """Publishes each of `sends` (key, headers) and gives, per queue, the bodies that came; a confirm orders it."""
    for number, (key, headers) in enumerate(sends):
        channel.basic_publish(exchange, key, b"%d" % number, pika.BasicProperties(headers=headers))
    came = []
    for queue in queues:
        bodies = []
        while True:
            method, _, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                break
            bodies.append(int(body))
        came.append(bodies)
    return came


def exclusive_queues(channel, count):
    return [channel.queue_declare("", exclusive=True).method.queue for _ in range(count)]


@check
def topic_exchange():
    with session() as (_, channel):
        channel.confirm_delivery()
        exchange = name("topic")
        channel.exchange_declare(exchange, "topic", auto_delete=True)
        queues = exclusive_queues(channel, 4)
        for queue, key in zip(queues, ("a.*.c", "a.#", "#", "*")):
            channel.queue_bind(queue, exchange, key)
        same(routed(channel, exchange, queues, [(key, None) for key in ("a.b.c", "a", "b", "a..c", "", "a.b")]),
             [[0, 3], [0, 1, 3, 5], [0, 1, 2, 3, 4, 5], [1, 2]])


@check
def fanout_and_direct_exchange_and_unbind():
    with session() as (_, channel):
        channel.confirm_delivery()
        queues = exclusive_queues(channel, 2)
        for kind in ("fanout", "direct"):
            exchange = name(kind)
            channel.exchange_declare(exchange, kind)
            channel.queue_bind(queues[0], exchange, "one")
            channel.queue_bind(queues[1], exchange, "two")
            same(routed(channel, exchange, queues, [("one", None), ("two", None)]),
                 [[0, 1], [0, 1]] if kind == "fanout" else [[0], [1]])
            channel.queue_unbind(queues[0], exchange, "one")
            same(routed(channel, exchange, queues, [("one", None)]), [[], [0]] if kind == "fanout" else [[], []])
            channel.exchange_delete(exchange)


@check
def headers_exchange():
    with session() as (_, channel):
        channel.confirm_delivery()
        exchange = name("headers")
        channel.exchange_declare(exchange, "headers", auto_delete=True)
        queues = exclusive_queues(channel, 4)
        for queue, arguments in zip(queues, (
                {"x-match": "all", "a": 1, "b": "x"}, {"x-match": "any", "a": 1, "b": "x"},
                {"x-match": "all", "a": None}, {"x-match": "any-with-x", "x-own": 1})):
            channel.queue_bind(queue, exchange, "", arguments)
        same(routed(channel, exchange, queues, [
            ("", {"a": 1, "b": "x"}), ("", {"a": 1}), ("", {"b": "x"}), ("", {"a": 2}), ("", None), ("", {"x-own": 1}),
        ]), [[0], [0, 1, 2], [0, 1, 3], [5]])


@check
def exchange_to_exchange_binding():
    with session() as (_, channel):
        channel.confirm_delivery()
        source, target = name("source"), name("target")
        channel.exchange_declare(source, "topic")
        channel.exchange_declare(target, "fanout")
        queue, = exclusive_queues(channel, 1)
        channel.exchange_bind(target, source, "a.#")
        channel.queue_bind(queue, target, "")
        channel.queue_bind(queue, source, "a.b")
        same(routed(channel, source, [queue], [("a.b", None), ("a.c", None), ("b", None)]), [[0, 1]])
        channel.exchange_unbind(target, source, "a.#")
        same(routed(channel, source, [queue], [("a.b", None), ("a.c", None)]), [[0]])
        channel.exchange_delete(source)
        channel.exchange_delete(target)


@check
def alternate_exchange_takes_what_nothing_matched():
    with session() as (_, channel):
        channel.confirm_delivery()
        other, exchange = name("other"), name("with-alternate")
        channel.exchange_declare(other, "fanout")
        channel.exchange_declare(exchange, "direct", arguments={"alternate-exchange": other})
        queues = exclusive_queues(channel, 2)
        channel.queue_bind(queues[0], exchange, "known")
        channel.queue_bind(queues[1], other, "")
        same(routed(channel, exchange, queues, [("known", None), ("unknown", None)]), [[0], [1]])
        channel.basic_publish(exchange, "unknown", b"x", mandatory=True)
        channel.exchange_delete(exchange)
        channel.exchange_delete(other)


@check
def cc_and_bcc_add_routing_keys():
    with session() as (_, channel):
        channel.confirm_delivery()
        queues = exclusive_queues(channel, 3)
        channel.basic_publish("", queues[0], b"x",
                              pika.BasicProperties(headers={"CC": [queues[1], queues[0]], "BCC": [queues[2]]}))
        for queue in queues:
            _, properties, _ = get(channel, queue)
            same(properties.headers, {"CC": [queues[1], queues[0]]})
            nothing_in(channel, queue)


# ------------------------------------------------------------- errors

@check
def missing_queue_and_exchange_are_404():
    with session() as (connection, _):
        queue, exchange = name("no-queue"), name("no-exchange")
        no_queue = "NOT_FOUND - no queue '%s' in vhost '/'" % queue
        no_exchange = "NOT_FOUND - no exchange '%s' in vhost '/'" % exchange
        channel_error(connection, 404, no_queue, lambda channel: channel.queue_declare(queue, passive=True))
        channel_error(connection, 404, no_queue, lambda channel: channel.basic_get(queue))
        channel_error(connection, 404, no_queue, lambda channel: channel.basic_consume(queue, lambda *_: None))
        channel_error(connection, 404, no_queue, lambda channel: channel.queue_purge(queue))
        channel_error(connection, 404, no_exchange, lambda channel: channel.exchange_declare(exchange, passive=True))

        def publish(channel):
            channel.confirm_delivery()
            channel.basic_publish(exchange, "", b"")
        channel_error(connection, 404, no_exchange, publish)


@check
def deleting_what_is_missing_is_no_error():
    with session() as (_, channel):
        same(channel.queue_delete(name("no-queue")).method.message_count, 0)
        channel.exchange_delete(name("no-exchange"))


@check
def inequivalent_redeclare_is_406_with_the_full_text():
    with session() as (connection, channel):
        queue, exchange = fresh_queue(channel, "inequivalent", x_max_length=10), name("inequivalent")
        channel.exchange_declare(exchange, "direct", durable=True)
        arg = "PRECONDITION_FAILED - inequivalent arg '%s' for %s '%s' in vhost '/': %s"
        channel_error(connection, 406, arg % ("durable", "queue", queue, "received 'false' but current is 'true'"),
                      lambda other: other.queue_declare(queue, arguments={"x-max-length": 10}))
        channel_error(connection, 406, arg % ("auto_delete", "queue", queue, "received 'true' but current is 'false'"),
                      lambda other: other.queue_declare(queue, durable=True, auto_delete=True,
                                                        arguments={"x-max-length": 10}))
        channel_error(connection, 406, arg % ("x-max-length", "queue", queue, "received '20' but current is '10'"),
                      lambda other: other.queue_declare(queue, durable=True, arguments={"x-max-length": 20}))
        channel_error(connection, 406, arg % ("x-max-length", "queue", queue,
                                              "received none but current is the value '10' of type 'signedint'"),
                      lambda other: other.queue_declare(queue, durable=True))
        channel_error(connection, 406, arg % ("x-expires", "queue", queue,
                                              "received the value '60000' of type 'signedint' but current is none"),
                      lambda other: other.queue_declare(queue, durable=True,
                                                        arguments={"x-max-length": 10, "x-expires": 60000}))
        channel_error(connection, 406, arg % ("type", "exchange", exchange,
                                              "received 'fanout' but current is 'direct'"),
                      lambda other: other.exchange_declare(exchange, "fanout", durable=True))
        channel_error(connection, 406, arg % ("durable", "exchange", exchange,
                                              "received 'false' but current is 'true'"),
                      lambda other: other.exchange_declare(exchange, "direct"))
        channel.queue_declare(queue, durable=True, arguments={"x-max-length": 10})
        channel.queue_delete(queue)
        channel.exchange_delete(exchange)


@check
def exclusive_queue_of_another_connection_is_405():
    with session() as (_, owner), session() as (connection, _):
        queue = owner.queue_declare(name("exclusive"), exclusive=True).method.queue
        text = ("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s' in vhost '/'. It could be "
                "originally declared on another connection or the exclusive property value does not match that of "
                "the original declaration." % queue)
        channel_error(connection, 405, text, lambda channel: channel.queue_declare(queue, passive=True))
        channel_error(connection, 405, text, lambda channel: channel.basic_consume(queue, lambda *_: None))
        channel_error(connection, 405, text, lambda channel: channel.basic_get(queue))
        channel_error(connection, 405, text, lambda channel: channel.queue_delete(queue))
        channel_error(connection, 405, text, lambda channel: channel.queue_bind(queue, "amq.direct", "x"))


@check
def exclusive_queue_goes_with_its_connection():
    with session() as (_, owner):
        queue = owner.queue_declare(name("gone"), exclusive=True).method.queue
    with session() as (connection, _):
        channel_error(connection, 404, "NOT_FOUND - no queue '%s' in vhost '/'" % queue,
                      lambda channel: channel.queue_declare(queue, passive=True))


@check
def reserved_names_and_the_default_exchange_are_403():
    with session() as (connection, _):
        refused = "ACCESS_REFUSED - "
        channel_error(connection, 403, refused + "queue name 'amq.interop' contains reserved prefix 'amq.*'",
                      lambda channel: channel.queue_declare("amq.interop"))
        channel_error(connection, 403, refused + "exchange name 'amq.interop' contains reserved prefix 'amq.*'",
                      lambda channel: channel.exchange_declare("amq.interop", "direct"))
        channel_error(connection, 403, refused + "operation not permitted on the default exchange",
                      lambda channel: channel.queue_bind(channel.queue_declare("", exclusive=True).method.queue, "", "x"))
        channel_error(connection, 403, refused + "deletion of system exchange 'amq.direct' in vhost '/' not allowed",
                      lambda channel: channel.exchange_delete("amq.direct"))


@check
def exclusive_consumer_is_403_for_a_second():
    with session() as (connection, channel):
        queue = fresh_queue(channel, "exclusive-consumer")
        channel.basic_consume(queue, lambda *_: None, exclusive=True)
        channel_error(connection, 403, "ACCESS_REFUSED - queue '%s' in vhost '/' in exclusive use" % queue,
                      lambda other: other.basic_consume(queue, lambda *_: None))
        channel.queue_delete(queue)


@check
def in_use_and_not_empty_are_406():
    with session() as (connection, channel):
        queue = fresh_queue(channel, "in-use")
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"x")
        channel_error(connection, 406, "PRECONDITION_FAILED - queue '%s' in vhost '/' not empty" % queue,
                      lambda other: other.queue_delete(queue, if_empty=True))
        channel.basic_consume(queue, lambda *_: None)
        channel_error(connection, 406, "PRECONDITION_FAILED - queue '%s' in vhost '/' in use" % queue,
                      lambda other: other.queue_delete(queue, if_unused=True))
        channel.queue_delete(queue)


@check
def unknown_exchange_type_is_406():
    with session() as (connection, _):
        channel_error(connection, 406, "PRECONDITION_FAILED - unknown exchange type 'x-interop'",
                      lambda channel: channel.exchange_declare(name("kind"), "x-interop"))


@check
def bad_arguments_are_406():
    with session() as (connection, _):
        queue = name("bad")
        for argument, value, why in (("x-expires", 0, "{value_zero,0}"), ("x-max-length", -5, "{value_negative,-5}"),
                                     ("x-message-ttl", -1, "{value_negative,-1}")):
            channel_error(connection, 406, "PRECONDITION_FAILED - invalid arg '%s' for queue '%s' in vhost '/': %s"
                          % (argument, queue, why),
                          lambda channel: channel.queue_declare(queue, durable=True, arguments={argument: value}))


@check
def unknown_delivery_tag_is_406():
    with session() as (connection, _):
        def acknowledge(channel):
            channel.basic_ack(82)
            channel.queue_declare("", exclusive=True)
        channel_error(connection, 406, "PRECONDITION_FAILED - unknown delivery tag 82", acknowledge)


@check
def tx_and_confirm_exclude_each_other():
    with session() as (connection, _):
        def confirm_then_tx(channel):
            channel.confirm_delivery()
            channel.tx_select()

        def tx_then_confirm(channel):
            channel.tx_select()
            channel.confirm_delivery()
        channel_error(connection, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", confirm_then_tx)
        channel_error(connection, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", tx_then_confirm)
        channel_error(connection, 406, "PRECONDITION_FAILED - channel is not transactional",
                      lambda channel: channel.tx_commit())


@check
def forged_user_id_is_406():
    with session() as (connection, _):
        def publish(channel):
            channel.confirm_delivery()
            channel.basic_publish("", name("user"), b"", pika.BasicProperties(user_id="somebody"))
        channel_error(connection, 406, "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated "
                      "user was '%s'" % PARTS.username, publish)


@check
def bad_expiration_is_406():
    with session() as (connection, _):
        def publish(channel):
            channel.confirm_delivery()
            channel.basic_publish("", name("expiration"), b"", pika.BasicProperties(expiration="soon"))
        channel_error(connection, 406, "PRECONDITION_FAILED - invalid expiration 'soon': no_integer", publish)


@check
def immediate_is_540_and_closes_the_connection():
    def publish(connection, channel):
        channel._impl._send_method(spec.Basic.Publish(exchange="", routing_key="x", immediate=True),
                                   (pika.BasicProperties(), b"x"))
        connection.process_data_events(5)
    connection_error(540, "NOT_IMPLEMENTED - immediate=true", publish)


@check
def prefetch_size_is_540_and_closes_the_connection():
    connection_error(540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)",
                     lambda _, channel: channel.basic_qos(prefetch_size=10))


@check
def consumer_tag_used_twice_is_530_and_closes_the_connection():
    def consume(connection, channel):
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_consume(queue, lambda *_: None, consumer_tag="twice")
        # pika itself refuses a tag it knows, so the second request goes past its books.
        channel._impl._send_method(spec.Basic.Consume(queue=queue, consumer_tag="twice"))
        connection.process_data_events(5)
    connection_error(530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'", consume)


@check
def consumer_is_told_when_its_queue_is_deleted():
    with session() as (connection, channel), session() as (_, other):
        queue = fresh_queue(channel, "cancelled")
        cancelled = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        tag = channel.basic_consume(queue, lambda *_: None)
        other.queue_delete(queue)
        deadline = time.monotonic() + 5
        while not cancelled and time.monotonic() < deadline:
            connection.process_data_events(0.1)
        same(cancelled, [tag])
        channel.queue_declare("", exclusive=True)


@check
def deleter_hears_delete_ok_before_the_cancel_of_its_own_consumer():
    """RabbitMQ answers the delete first; a consumer that fails on its cancel would else lose the answer."""
    with session() as (connection, channel):
        heard = []
        process = connection._impl._process_frame

        def note(frame):
            heard.append(getattr(getattr(frame, "method", None), "NAME", None))
            return process(frame)
        connection._impl._process_frame = note
        queue = fresh_queue(channel, "own-cancel")
        channel.basic_consume(queue, lambda *_: None)
        channel.queue_delete(queue)
        connection.sleep(0.2)
        same([method for method in heard if method in ("Queue.DeleteOk", "Basic.Cancel")],
             ["Queue.DeleteOk", "Basic.Cancel"])


# ------------------------------------------------------------- time, dead letters, priorities

def dead_letter_pair(channel, suffix, **arguments):
    dead = fresh_queue(channel, suffix + "-dead")
    queue = fresh_queue(channel, suffix, x_dead_letter_exchange="", x_dead_letter_routing_key=dead, **arguments)
    return queue, dead


def check_death(properties, reason, queue, expiration=None):
    headers = properties.headers
    death, = headers["x-death"]
    same((death["count"], death["reason"], death["queue"], death["exchange"], death["routing-keys"]),
         (1, reason, queue, "", [queue]))
    same(isinstance(death["time"], datetime.datetime), True)
    age = abs((datetime.datetime.now(datetime.timezone.utc) - death["time"]).total_seconds())
    same(age < 60, True)
    same(death.get("original-expiration"), expiration)
    same([headers["x-first-death-" + part] for part in ("reason", "queue", "exchange")], [reason, queue, ""])
    same([headers["x-last-death-" + part] for part in ("reason", "queue", "exchange")], [reason, queue, ""])


@check
def queue_ttl_dead_letters_as_expired():
    with session() as (_, channel):
        queue, dead = dead_letter_pair(channel, "ttl", x_message_ttl=100)
        channel.basic_publish("", queue, b"x", PERSISTENT)
        started = time.monotonic()
        method, properties, body = get(channel, dead)
        same((body, method.exchange, method.routing_key, method.redelivered), (b"x", "", dead, False))
        # Far above the 100 ms, and below any other deadline: a busy machine is late.
        same(time.monotonic() - started < 10, True)
        check_death(properties, "expired", queue)
        nothing_in(channel, queue)
        channel.queue_delete(queue)
        channel.queue_delete(dead)


@check
def message_ttl_dead_letters_without_its_expiration():
    with session() as (_, channel):
        queue, dead = dead_letter_pair(channel, "expiration")
        channel.basic_publish("", queue, b"x", pika.BasicProperties(expiration="100"))
        _, properties, _ = get(channel, dead)
        check_death(properties, "expired", queue, expiration="100")
        same(properties.expiration, None)
        channel.queue_delete(queue)
        channel.queue_delete(dead)


@check
def rejected_and_overflowing_messages_are_dead_lettered():
    with session() as (_, channel):
        queue, dead = dead_letter_pair(channel, "length", x_max_length=1)
        channel.basic_publish("", queue, b"first")
        channel.basic_publish("", queue, b"second")
        _, properties, body = get(channel, dead)
        same(body, b"first")
        check_death(properties, "maxlen", queue)
        method, _, _ = get(channel, queue, auto_ack=False)
        channel.basic_nack(method.delivery_tag, requeue=False)
        _, properties, body = get(channel, dead)
        same(body, b"second")
        check_death(properties, "rejected", queue)
        channel.queue_delete(queue)
        channel.queue_delete(dead)


@check
def death_counts_grow_round_a_retry_loop():
    with session() as (_, channel):
        work, wait = name("work"), name("wait")
        channel.queue_declare(work, durable=True, arguments={"x-dead-letter-exchange": "",
                                                             "x-dead-letter-routing-key": wait})
        channel.queue_declare(wait, durable=True, arguments={"x-dead-letter-exchange": "", "x-message-ttl": 50,
                                                             "x-dead-letter-routing-key": work})
        channel.basic_publish("", work, b"x")
        for turn in range(3):
            method, properties, _ = get(channel, work, auto_ack=False)
            deaths = (properties.headers or {}).get("x-death", [])
            same([(death["queue"], death["reason"], death["count"]) for death in deaths],
                 [(wait, "expired", turn), (work, "rejected", turn)] if turn else [])
            channel.basic_reject(method.delivery_tag, requeue=turn == 2)
        channel.queue_delete(work)
        channel.queue_delete(wait)


@check
def unused_queue_expires():
    with session() as (connection, channel):
        queue = fresh_queue(channel, "expires", x_expires=200)
        time.sleep(1)
        channel_error(connection, 404, "NOT_FOUND - no queue '%s' in vhost '/'" % queue,
                      lambda other: other.queue_declare(queue, passive=True))


@check
def priority_queue_serves_the_highest_first():
    with session() as (_, channel):
        queue = fresh_queue(channel, "priority", x_max_priority=5)
        for priority in (1, 5, None, 9, 3):
            channel.basic_publish("", queue, b"%d" % (priority or 0), pika.BasicProperties(priority=priority))
        eventually(lambda: ready(channel, queue), 5)
        same([get(channel, queue)[2] for _ in range(5)], [b"5", b"9", b"3", b"1", b"0"])
        channel.queue_delete(queue)


@check
def single_active_consumer_hands_over():
    with session() as (connection, channel):
        queue = fresh_queue(channel, "sac", x_single_active_consumer=True)
        first, second = [], []
        tag = channel.basic_consume(queue, lambda _c, _m, _p, body: first.append(body), auto_ack=True)
        channel.basic_consume(queue, lambda _c, _m, _p, body: second.append(body), auto_ack=True)
        channel.basic_publish("", queue, b"1")
        channel.basic_publish("", queue, b"2")
        connection.sleep(0.3)
        channel.basic_cancel(tag)
        channel.basic_publish("", queue, b"3")
        connection.sleep(0.3)
        same((first, second), ([b"1", b"2"], [b"3"]))
        channel.queue_delete(queue)


@check
def auto_delete_queue_goes_with_its_last_consumer():
    with session() as (connection, channel):
        queue = name("auto-delete")
        channel.queue_declare(queue, durable=True, auto_delete=True)
        channel.basic_cancel(channel.basic_consume(queue, lambda *_: None))
        channel_error(connection, 404, "NOT_FOUND - no queue '%s' in vhost '/'" % queue,
                      lambda other: other.queue_declare(queue, passive=True))


# ------------------------------------------------------------- staying and coming back

class Idle(threading.Thread):
    """A connection with a heartbeat of 1 s that does nothing else; pika ends it if the broker's do not come."""

    def __init__(self):
        super().__init__(daemon=True)
        self.error = None
        self.seconds = 0

    def run(self):
        try:
            connection = pika.BlockingConnection(parameters(heartbeat=1))
            started = time.monotonic()
            while time.monotonic() - started < 9:
                connection.process_data_events(1)
            connection.channel().queue_declare("", exclusive=True)
            self.seconds = time.monotonic() - started
            connection.close()
        except Exception as error:
            self.error = error


IDLE = Idle()
IDLE.start()


@check
def idle_connection_lives_on_heartbeats():
    IDLE.join(20)
    same((IDLE.error, IDLE.seconds > 8), (None, True))


def reconnect():
    deadline = time.monotonic() + 20
    while True:
        try:
            return pika.BlockingConnection(parameters())
        except exceptions.AMQPConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@check
def durable_definitions_survive_a_kill():
    queue, exchange, target, exclusive = name("durable"), name("durable"), name("durable2"), name("excl")
    with session() as (connection, channel):
        channel.exchange_declare(exchange, "topic", durable=True)
        channel.exchange_declare(target, "fanout", durable=True)
        channel.queue_declare(queue, durable=True, arguments={"x-max-length": 100})
        channel.exchange_bind(target, exchange, "a.#")
        channel.queue_bind(queue, target, "")
        channel.queue_declare(exclusive, exclusive=True)
        restart_broker()
        try:
            connection.process_data_events(5)
        except exceptions.AMQPConnectionError:
            pass
        else:
            raise AssertionError("the connection did not notice that the broker was killed")
    connection = reconnect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True, arguments={"x-max-length": 100})
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.basic_publish(exchange, "a.b", b"after", mandatory=True)
    same(get(channel, queue)[2], b"after")
    channel_error(connection, 404, "NOT_FOUND - no queue '%s' in vhost '/'" % exclusive,
                  lambda other: other.queue_declare(exclusive, passive=True))
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)
    channel.exchange_delete(target)
    connection.close()


run_all()
