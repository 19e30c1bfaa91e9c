"""py-amqp by itself, kombu on top of it, and a Celery worker process on top of both."""

import datetime
import decimal
import os
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[0:0] = [os.path.join(HERE, ".."), HERE]

import amqp
import kombu
from checks import PARTS, URI, check, eventually, name, restart_broker, run_all, same

os.environ["INTEROP_CELERY_QUEUE"] = name("celery")
os.environ["INTEROP_CELERY_QUORUM_QUEUE"] = name("celery.quorum")
import quorum_tasks
import tasks

ADDRESS = "%s:%d" % (PARTS.hostname, PARTS.port)
ACCESS_REFUSED = ("ACCESS_REFUSED - Login was refused using authentication mechanism %s. "
                  "For details see the broker logfile.")


class session:
    """A py-amqp connection and a channel on it."""

    def __init__(self, **changes):
        self.settings = dict(host=ADDRESS, userid=PARTS.username, password=PARTS.password, connect_timeout=5,
                             read_timeout=10, **changes)

    def __enter__(self):
        self.connection = amqp.Connection(**self.settings)
        self.connection.connect()
        return self.connection, self.connection.channel()

    def __exit__(self, *_):
        if self.connection.connected:
            self.connection.close()


def pump(connection, seconds=0.3):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            connection.drain_events(timeout=max(0.01, deadline - time.monotonic()))
        except (socket.timeout, TimeoutError):
            return


def get(channel, queue, no_ack=True):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        message = channel.basic_get(queue, no_ack=no_ack)
        if message is not None:
            return message
        time.sleep(0.02)
    raise AssertionError("no message in %s" % queue)


def durable_queue(channel, suffix, **arguments):
    queue = name(suffix)
    channel.queue_declare(queue, durable=True, auto_delete=False,
                          arguments={k.replace("_", "-"): v for k, v in arguments.items()})
    return queue


def exclusive_queue(channel):
    return channel.queue_declare("", exclusive=True).queue


def refused(kind, code, text, action):
    try:
        action()
    except amqp.AMQPError as error:
        same((type(error), error.reply_code, error.reply_text), (kind, code, text))
    else:
        raise AssertionError("no error, wanted %d %s" % (code, text))


# ------------------------------------------------------------- py-amqp

@check
def amqp_wrong_password_is_access_refused():
    for mechanism in ("PLAIN", "AMQPLAIN"):
        def connect():
            amqp.Connection(ADDRESS, userid=PARTS.username, password="wrong", login_method=mechanism).connect()
        refused(amqp.AccessRefused, 403, ACCESS_REFUSED % mechanism, connect)


@check
def amqp_logs_in_by_amqplain():
    with session(login_method="AMQPLAIN") as (_, channel):
        exclusive_queue(channel)


@check
def amqp_missing_vhost_is_530():
    refused(amqp.NotAllowed, 530, "NOT_ALLOWED - vhost interop-none not found",
            lambda: amqp.Connection(ADDRESS, userid=PARTS.username, password=PARTS.password,
                                    virtual_host="interop-none").connect())


@check
def amqp_consumes_acknowledges_and_rejects():
    with session() as (connection, channel):
        queue = durable_queue(channel, "consume")
        got = []
        tag = channel.basic_consume(queue, callback=lambda message: got.append(message))
        same(tag.startswith("amq.ctag-"), True)
        for number in range(4):
            channel.basic_publish(amqp.Message("m%d" % number, delivery_mode=2), routing_key=queue)
        eventually(lambda: pump(connection, 0.1) or len(got), 4)
        same([(m.body, m.delivery_tag, m.delivery_info["redelivered"]) for m in got],
             [("m%d" % n, n + 1, False) for n in range(4)])
        channel.basic_ack(2, multiple=True)
        channel.basic_reject(3, requeue=True)
        channel.basic_reject(4, requeue=False)
        eventually(lambda: pump(connection, 0.1) or len(got), 5)
        same((got[4].body, got[4].delivery_info["redelivered"], got[4].delivery_tag), ("m2", True, 5))
        channel.basic_ack(5)
        channel.basic_cancel(tag)
        same(channel.queue_declare(queue, passive=True)[1:], (0, 0))
        channel.queue_delete(queue)


@check
def amqp_prefetch_per_consumer_and_per_channel():
    with session() as (connection, channel):
        queues = [durable_queue(channel, "qos%d" % n) for n in range(2)]
        for queue in queues:
            for number in range(5):
                channel.basic_publish(amqp.Message(str(number)), routing_key=queue)
            eventually(lambda: channel.queue_declare(queue, passive=True).message_count, 5)
        for shared, wanted in ((False, 4), (True, 2)):
            other = connection.channel()
            got = []
            other.basic_qos(0, 2, shared)
            for queue in queues:
                other.basic_consume(queue, callback=got.append)
            pump(connection, 0.4)
            same((shared, len(got)), (shared, wanted))
            if shared:
                other.basic_qos(0, 7, True)
                pump(connection, 0.4)
                same(len(got), 7)
            other.close()
        for queue in queues:
            channel.queue_delete(queue)


@check
def amqp_confirms_and_returns():
    with session(confirm_publish=True) as (connection, channel):
        queue = durable_queue(channel, "confirm", x_max_length=1, x_overflow="reject-publish")
        events = []
        channel.events["basic_return"].add(
            lambda error, exchange, key, message: events.append((error.reply_code, error.reply_text, exchange, key,
                                                                 message.body)))
        channel.basic_publish_confirm(amqp.Message("fits", delivery_mode=2), routing_key=queue, mandatory=True)
        same(events, [])
        channel.basic_publish_confirm(amqp.Message("lost"), routing_key=name("nowhere"), mandatory=True)
        same(events, [(312, "NO_ROUTE", "", name("nowhere"), "lost")])
        try:
            channel.basic_publish_confirm(amqp.Message("too much"), routing_key=queue)
        except amqp.exceptions.MessageNacked:
            pass
        else:
            raise AssertionError("a message over x-max-length was confirmed")
        same(get(channel, queue).body, "fits")
        same(channel.basic_get(queue), None)
        channel.queue_delete(queue)


@check
def amqp_transaction():
    with session() as (connection, channel):
        queue = durable_queue(channel, "tx")
        watcher = connection.channel()
        channel.tx_select()
        channel.basic_publish(amqp.Message("dropped"), routing_key=queue)
        channel.tx_rollback()
        channel.basic_publish(amqp.Message("kept"), routing_key=queue)
        same(watcher.queue_declare(queue, passive=True).message_count, 0)
        channel.tx_commit()
        same(get(watcher, queue).body, "kept")
        same(watcher.basic_get(queue), None)
        watcher.queue_delete(queue)


@check
def amqp_all_table_types_come_back():
    with session() as (_, channel):
        queue = exclusive_queue(channel)
        headers = {
            "bool": True, "false": False, "int": -5, "long": 2 ** 40, "negative": -(2 ** 40), "double": 1.25,
            "decimal": decimal.Decimal("3.14"), "time": datetime.datetime(2024, 2, 29, 12, 30, 15),
            "text": "häre", "void": None, "array": [1, "two", [3], {"four": 4}], "table": {"a": {"b": [True]}},
        }
        channel.basic_publish(amqp.Message("x", application_headers=headers), routing_key=queue)
        got = get(channel, queue).headers
        got["time"] = got["time"].replace(tzinfo=None)
        same(got, headers)
        same(isinstance(got["bool"], bool) and isinstance(got["decimal"], decimal.Decimal), True)


@check
def amqp_large_body_in_many_frames():
    body = os.urandom(1 << 20) * 5
    with session() as (connection, channel):
        same(connection.frame_max, 131072)
        queue = exclusive_queue(channel)
        channel.basic_publish(amqp.Message(body), routing_key=queue)
        got = get(channel, queue).body
        same((len(got), got == body), (len(body), True))


@check
def amqp_exchange_kinds_and_bindings_between_them():
    with session(confirm_publish=True) as (_, channel):
        topic, fanout, headers = name("topic"), name("fanout"), name("headers")
        channel.exchange_declare(topic, "topic", durable=True, auto_delete=False)
        channel.exchange_declare(fanout, "fanout", durable=True, auto_delete=False)
        channel.exchange_declare(headers, "headers", durable=True, auto_delete=False)
        by_topic, by_fanout, by_headers = (exclusive_queue(channel) for _ in range(3))
        channel.queue_bind(by_topic, topic, "a.*.#")
        channel.exchange_bind(fanout, topic, "#")
        channel.exchange_bind(headers, fanout, "")
        channel.queue_bind(by_fanout, fanout)
        channel.queue_bind(by_headers, headers, arguments={"x-match": "all", "k": 1})
        for key, value in (("a.b", 1), ("a", 1), ("a.b.c", 2)):
            channel.basic_publish(amqp.Message(key, application_headers={"k": value}), topic, key)
        for queue, wanted in ((by_topic, ["a.b", "a.b.c"]), (by_fanout, ["a.b", "a", "a.b.c"]),
                              (by_headers, ["a.b", "a"])):
            same([get(channel, queue).body for _ in wanted], wanted)
            same(channel.basic_get(queue), None)
        channel.exchange_unbind(headers, fanout, "")
        channel.basic_publish(amqp.Message("x", application_headers={"k": 1}), fanout)
        same((get(channel, by_fanout).body, channel.basic_get(by_headers)), ("x", None))
        for exchange in (topic, fanout, headers):
            channel.exchange_delete(exchange)


@check
def amqp_errors_have_their_codes_and_texts():
    with session() as (connection, channel):
        queue, exchange = durable_queue(channel, "errors"), name("errors")
        channel.exchange_declare(exchange, "direct", durable=True, auto_delete=False)
        missing = name("missing")
        refused(amqp.NotFound, 404, "NOT_FOUND - no queue '%s' in vhost '/'" % missing,
                lambda: connection.channel().queue_declare(missing, passive=True))
        refused(amqp.NotFound, 404, "NOT_FOUND - no exchange '%s' in vhost '/'" % missing,
                lambda: connection.channel().exchange_declare(missing, "direct", passive=True))
        refused(amqp.PreconditionFailed, 406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '%s' in "
                "vhost '/': received 'fanout' but current is 'direct'" % exchange,
                lambda: connection.channel().exchange_declare(exchange, "fanout", durable=True, auto_delete=False))
        refused(amqp.PreconditionFailed, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' in "
                "vhost '/': received 'false' but current is 'true'" % queue,
                lambda: connection.channel().queue_declare(queue, durable=False, auto_delete=False))
        refused(amqp.AccessRefused, 403, "ACCESS_REFUSED - queue name 'amq.interop' contains reserved prefix 'amq.*'",
                lambda: connection.channel().queue_declare("amq.interop"))
        with session() as (_, owner):
            locked = exclusive_queue(owner)
            refused(amqp.ResourceLocked, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s' "
                    "in vhost '/'. It could be originally declared on another connection or the exclusive property "
                    "value does not match that of the original declaration." % locked,
                    lambda: connection.channel().queue_declare(locked, passive=True))
        channel.queue_delete(queue)
        channel.exchange_delete(exchange)
        same(connection.connected, True)


@check
def amqp_immediate_is_540():
    with session() as (connection, channel):
        def publish():
            channel.basic_publish(amqp.Message("x"), routing_key="x", immediate=True)
            connection.drain_events(timeout=5)
        refused(amqp.AMQPNotImplementedError, 540, "NOT_IMPLEMENTED - immediate=true", publish)


@check
def amqp_consumer_is_told_when_its_queue_is_deleted():
    with session() as (connection, channel), session() as (_, other):
        queue = durable_queue(channel, "cancelled")
        cancelled = []
        tag = channel.basic_consume(queue, callback=lambda _: None, on_cancel=cancelled.append)
        other.queue_delete(queue)
        eventually(lambda: pump(connection, 0.1) or cancelled, [tag])


@check
def amqp_rpc_by_direct_reply_to():
    with session() as (client_connection, client), session() as (_, server):
        requests = durable_queue(server, "rpc")
        answers = []
        client.basic_consume("amq.rabbitmq.reply-to", no_ack=True, callback=lambda m: answers.append(m.body))
        client.basic_publish(amqp.Message("ping", reply_to="amq.rabbitmq.reply-to"), routing_key=requests)
        request = get(server, requests)
        server.basic_publish(amqp.Message(request.body + "-pong"), routing_key=request.reply_to)
        eventually(lambda: pump(client_connection, 0.1) or answers, ["ping-pong"])
        server.queue_delete(requests)


@check
def amqp_heartbeats_keep_an_idle_connection():
    """py-amqp raises when two heartbeats of the broker fail to come."""
    with session(heartbeat=1) as (connection, channel):
        same(connection.heartbeat, 1)
        received = connection.transport.read_frame
        kinds = []

        def count(*args, **kwargs):
            frame = received(*args, **kwargs)
            kinds.append(frame[0])
            return frame
        connection.transport.read_frame = count
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            pump(connection, 0.4)
            connection.heartbeat_tick()
        same(kinds.count(8) >= 2, True)
        exclusive_queue(channel)


# ------------------------------------------------------------- kombu

def kombu_connection():
    return kombu.Connection(URI, connect_timeout=5)


@check
def kombu_sends_and_receives_through_an_exchange():
    exchange = kombu.Exchange(name("kombu"), "topic", durable=True)
    queue = kombu.Queue(name("kombu"), exchange, routing_key="a.#", durable=True)
    with kombu_connection() as connection:
        got = []

        def receive(body, message):
            got.append((body, message.headers.get("h"), message.content_type))
            message.ack()
        with connection.Consumer(queue, callbacks=[receive]):
            with connection.Producer(serializer="json") as producer:
                producer.publish({"n": [1, "zwei"]}, exchange=exchange, routing_key="a.b", headers={"h": 1},
                                 declare=[queue])
                producer.publish({"big": "x" * 200000}, exchange=exchange, routing_key="a.c", compression="zlib")
            deadline = time.monotonic() + 5
            while len(got) < 2 and time.monotonic() < deadline:
                connection.drain_events(timeout=5)
        same(got[0], ({"n": [1, "zwei"]}, 1, "application/json"))
        same(len(got[1][0]["big"]), 200000)
        queue(connection.default_channel).delete()
        exchange(connection.default_channel).delete()


@check
def kombu_simple_queue_requeues_and_rejects():
    with kombu_connection() as connection:
        queue = connection.SimpleQueue(name("simple"))
        queue.put({"n": 1})
        message = queue.get(timeout=5)
        same((message.payload, message.delivery_info["redelivered"]), ({"n": 1}, False))
        message.requeue()
        message = queue.get(timeout=5)
        same(message.delivery_info["redelivered"], True)
        message.reject()
        try:
            queue.get(timeout=0.3)
        except queue.Empty:
            pass
        else:
            raise AssertionError("a rejected message came again")
        queue.close()
        queue.queue(connection.default_channel).delete()


@check
def kombu_queue_options_expire_and_dead_letter():
    with kombu_connection() as connection:
        channel = connection.default_channel
        dead = kombu.Queue(name("dead"), durable=True)(channel)
        dead.declare()
        queue = kombu.Queue(name("short"), durable=True, message_ttl=0.1, max_length=5, max_priority=3,
                            queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name})
        queue = queue(channel)
        queue.declare()
        connection.Producer().publish("x", routing_key=queue.name)
        message = get(channel, dead.name)
        death, = message.headers["x-death"]
        same((death["reason"], death["queue"], death["count"], death["exchange"], death["routing-keys"]),
             ("expired", queue.name, 1, "", [queue.name]))
        queue.delete()
        dead.delete()


@check
def kombu_priorities():
    with kombu_connection() as connection:
        queue = kombu.Queue(name("priority"), durable=True, max_priority=10)(connection.default_channel)
        queue.declare()
        producer = connection.Producer()
        for priority in (1, 9, 5):
            producer.publish(priority, routing_key=queue.name, priority=priority)
        eventually(lambda: queue.queue_declare(passive=True).message_count, 3)
        same([queue.get(no_ack=True).payload for _ in range(3)], [9, 5, 1])
        queue.delete()


@check
def kombu_pidbox_broadcast_as_celery_uses_it():
    """The mailbox of `celery inspect`: a fanout exchange, a reply queue that expires, auto-delete queues."""
    replies = tasks.app.control.ping(timeout=3, limit=1)
    same([list(reply.values()) for reply in replies], [[{"ok": "pong"}]])


# ------------------------------------------------------------- Celery

def start_worker(application):
    """A worker process of `application`, once it is ready; its log is shown."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", application, "worker", "--loglevel", "INFO", "--pool", "threads",
         "--without-mingle", "--without-gossip", "--hostname", application + "@%h"],
        cwd=HERE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=dict(os.environ, PYTHONPATH=HERE, PYTHONDONTWRITEBYTECODE="1", HOME=os.getcwd()))
    log = []

    def keep_log():
        for line in worker.stdout:
            log.append(line.rstrip())
            # One write a line: checks print beside this thread.
            print("# worker: %s\n" % line.rstrip(), end="", flush=True)

    threading.Thread(target=keep_log, daemon=True).start()
    eventually(lambda: any(" ready." in line for line in log), True, seconds=30)
    return worker


# The mailbox check above speaks to the worker, so nothing starts before it is ready.
WORKER = start_worker("tasks")


@check
def celery_results_come_back_in_number():
    results = [tasks.add.delay(number, 1) for number in range(30)]
    same([result.get(timeout=15) for result in results], list(range(1, 31)))


@check
def celery_failure_comes_back():
    try:
        tasks.fail.delay().get(timeout=10)
    except ValueError as error:
        same(str(error), "as asked")
    else:
        raise AssertionError("the task's failure did not come back")


@check
def celery_retries():
    same(tasks.succeed_at_third_try.delay().get(timeout=15), 2)


@check
def celery_group_and_late_acknowledgement():
    from celery import group
    same(group(tasks.add.s(number, number) for number in range(8))().get(timeout=15), [2 * n for n in range(8)])
    same(tasks.redelivered.delay().get(timeout=10), False)


@check
def celery_more_eta_tasks_than_prefetch_all_finish():
    """The worker may hold one message; twelve with a countdown of 2 s must all run, none before its time."""
    sent = time.time()
    results = [tasks.now.apply_async(countdown=2) for _ in range(12)]
    ran = [result.get(timeout=20) for result in results]
    same((len(ran), min(ran) >= sent + 2), (12, True))
    same(max(ran) < sent + 10, True)


@check
def celery_plain_task_overtakes_eta_tasks_of_a_quorum_queue():
    """With a quorum queue the broker keeps tasks with a countdown (dead letters after a TTL), not the worker."""
    worker = start_worker("quorum_tasks")
    try:
        sent = time.time()
        delayed = [quorum_tasks.now.apply_async(countdown=4) for _ in range(12)]
        same(quorum_tasks.now.delay().get(timeout=20) < sent + 3, True)
        ran = [result.get(timeout=20) for result in delayed]
        same((min(ran) >= sent + 3.9, max(ran) < sent + 10), (True, True))
    finally:
        worker.send_signal(signal.SIGTERM)
        same(worker.wait(timeout=15), 0)
        with session() as (_, channel):
            channel.queue_delete(quorum_tasks.QUEUE)
            channel.exchange_delete(quorum_tasks.QUEUE)
            for level in range(quorum_tasks.DELAY_LEVELS):
                channel.queue_delete("celery_delayed_%d" % level)
                channel.exchange_delete("celery_delayed_%d" % level)
            channel.exchange_delete("celery_delayed_delivery")


@check
def celery_worker_and_definitions_survive_a_kill():
    same(tasks.add.delay(1, 1).get(timeout=10), 2)
    queue = name("durable")
    with kombu_connection() as connection:
        exchange = kombu.Exchange(name("durable"), "topic", durable=True)
        bound = kombu.Queue(queue, exchange, routing_key="k.#", durable=True)(connection.default_channel)
        bound.declare()
        restart_broker()
        try:
            connection.drain_events(timeout=5)
        except connection.connection_errors as error:
            same(isinstance(error, (socket.timeout, TimeoutError)), False)
        else:
            raise AssertionError("the connection did not notice that the broker was killed")
    with kombu_connection() as connection:
        connection.ensure_connection(max_retries=50, interval_start=0.1, interval_step=0)
        channel = connection.default_channel
        channel.basic_publish(amqp.Message("after"), exchange.name, "k.1", mandatory=True)
        same(get(channel, queue).body, "after")
        channel.queue_delete(queue)
        channel.exchange_delete(exchange.name)
    # The worker has to come back by itself; the caller is a new process, since this one's pools hold dead sockets.
    caller = subprocess.run([sys.executable, "-c", "import tasks; print(tasks.add.delay(20, 1).get(timeout=20))"],
                            cwd=HERE, stdout=subprocess.PIPE, timeout=40, text=True,
                            env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"))
    same(caller.stdout.strip(), "21")


@check
def celery_worker_stops_cleanly():
    WORKER.send_signal(signal.SIGTERM)
    same(WORKER.wait(timeout=15), 0)
    with session() as (_, channel):
        same(channel.queue_declare(os.environ["INTEROP_CELERY_QUEUE"], passive=True).consumer_count, 0)
        channel.queue_delete(os.environ["INTEROP_CELERY_QUEUE"])


run_all()
