"""aio-pika: asyncio, confirms by default, and the robust connection that recovers its own topology."""

import asyncio
import datetime
import decimal
import functools
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import aio_pika
import aiormq
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.patterns import RPC
from checks import PARTS, URI, check, name, restart_broker, run_all, same


def concurrent(function):
    """A check that is a coroutine, with a limit on its time."""
    @functools.wraps(function)
    def run():
        asyncio.run(asyncio.wait_for(function(), 45))
    return check(run)


async def refused(kind, text, action):
    try:
        await action
    except kind as error:
        same(text in str(error), True)
    else:
        raise AssertionError("no error, wanted %s" % text)


async def get(queue, no_ack=True):
    message = await queue.get(timeout=5, fail=False, no_ack=no_ack)
    deadline = time.monotonic() + 5
    while message is None and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        message = await queue.get(timeout=5, fail=False, no_ack=no_ack)
    same(message is None, False)
    return message


async def until(probe, seconds=10):
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            raise AssertionError("did not come true within %s s" % seconds)
        await asyncio.sleep(0.02)


@concurrent
async def wrong_password_is_an_authentication_error():
    wrong = aio_pika.connect(URI.replace(":%s@" % PARTS.password, ":wrong@"))
    await refused(aiormq.exceptions.ProbableAuthenticationError,
                  "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
                  "For details see the broker logfile.", wrong)


@concurrent
async def missing_vhost_is_refused():
    """aiormq has no better name for connection.close in place of connection.open-ok."""
    await refused(aiormq.exceptions.InvalidFrameError, "got <Connection.Close",
                  aio_pika.connect(URI.rsplit("/", 1)[0] + "/interop-none"))


@concurrent
async def iterator_consumes_with_prefetch():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=2)
        queue = await channel.declare_queue(name("iterate"), durable=True)
        for number in range(20):
            await channel.default_exchange.publish(Message(b"%d" % number, delivery_mode=DeliveryMode.PERSISTENT),
                                                   queue.name)
        got = []
        async with queue.iterator(timeout=5) as messages:
            async for message in messages:
                async with message.process():
                    same((message.redelivered, message.delivery_mode), (False, DeliveryMode.PERSISTENT))
                    got.append(int(message.body))
                if len(got) == 20:
                    break
        same(got, list(range(20)))
        same((await queue.delete(if_empty=True)).message_count, 0)


@concurrent
async def prefetch_holds_back_and_global_prefetch_is_raised():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name("prefetch"), durable=True)
        for number in range(10):
            await channel.default_exchange.publish(Message(b"x"), queue.name)
        for shared in (False, True):
            other = await connection.channel()
            await other.set_qos(prefetch_count=3, global_=shared)
            consumed = await other.get_queue(queue.name)
            got = []

            async def keep(message):
                got.append(message)
            tag = await consumed.consume(keep)
            await asyncio.sleep(0.4)
            same((shared, len(got)), (shared, 3))
            if shared:
                await other.set_qos(prefetch_count=6, global_=True)
                await asyncio.sleep(0.4)
                same(len(got), 6)
            else:
                await got[1].ack(multiple=True)
                await until(lambda: len(got) == 5)
            await consumed.cancel(tag)
            await other.close()
        await queue.delete(if_unused=False, if_empty=False)


@concurrent
async def rejects_and_requeues():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name("reject"), durable=True)
        await channel.default_exchange.publish(Message(b"x"), queue.name)
        message = await get(queue, no_ack=False)
        await message.reject(requeue=True)
        message = await get(queue, no_ack=False)
        same(message.redelivered, True)
        await message.nack(requeue=True)
        message = await get(queue, no_ack=False)
        same(message.redelivered, True)
        await message.nack(requeue=False)
        same(await queue.get(fail=False), None)
        await queue.delete()


@concurrent
async def many_confirms_at_once_and_a_return():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        queue = await channel.declare_queue(name("confirm"), durable=True)
        await asyncio.gather(*(channel.default_exchange.publish(
            Message(b"%d" % number, delivery_mode=DeliveryMode.PERSISTENT), queue.name) for number in range(500)))
        same((await channel.declare_queue(queue.name, passive=True)).declaration_result.message_count, 500)
        try:
            await channel.default_exchange.publish(Message(b"lost"), name("nowhere"), mandatory=True)
        except aio_pika.exceptions.PublishError as error:
            returned = error.message.delivery
            same((returned.reply_code, returned.reply_text, returned.routing_key, error.message.body),
                 (312, "NO_ROUTE", name("nowhere"), b"lost"))
        else:
            raise AssertionError("a mandatory message to nowhere raised nothing")
        await queue.delete(if_empty=False)
        full = await channel.declare_queue(name("full"), durable=True,
                                           arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await channel.default_exchange.publish(Message(b"fits"), full.name)
        try:
            await channel.default_exchange.publish(Message(b"too much"), full.name)
        except aio_pika.exceptions.DeliveryError:
            pass
        else:
            raise AssertionError("a message over x-max-length was confirmed")
        await full.delete(if_empty=False)


@concurrent
async def transaction_commits_and_rolls_back():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel(publisher_confirms=False)
        watcher = await connection.channel()
        queue = await watcher.declare_queue(name("tx"), durable=True)
        async with channel.transaction():
            await channel.default_exchange.publish(Message(b"kept"), queue.name)
            same(await queue.get(fail=False), None)
        same((await get(queue)).body, b"kept")
        try:
            async with channel.transaction():
                await channel.default_exchange.publish(Message(b"dropped"), queue.name)
                raise ValueError("roll back")
        except ValueError:
            pass
        same(await queue.get(fail=False), None)
        await queue.delete()


@concurrent
async def rpc_pattern_over_two_connections():
    """Requests by name, results by an exclusive reply queue, dead letters for calls that expire."""
    async with await aio_pika.connect(URI) as server, await aio_pika.connect(URI) as client:
        served = await RPC.create(await server.channel())
        calls = await RPC.create(await client.channel())
        method = name("multiply")

        async def multiply(x, y):
            return x * y
        await served.register(method, multiply, durable=True, auto_delete=True)
        same(await asyncio.gather(*(calls.call(method, dict(x=n, y=2)) for n in range(20))), [2 * n for n in range(20)])
        await served.unregister(multiply)
        await calls.close()
        await served.close()


@concurrent
async def rpc_by_direct_reply_to():
    async with await aio_pika.connect(URI) as connection:
        client = await connection.channel()
        server = await connection.channel()
        requests = await server.declare_queue(name("direct-rpc"), durable=True)
        replies = await client.get_queue("amq.rabbitmq.reply-to", ensure=False)
        answer = asyncio.get_running_loop().create_future()

        async def receive(message):
            answer.set_result((message.correlation_id, message.body))
        await replies.consume(receive, no_ack=True)
        await client.default_exchange.publish(
            Message(b"ping", reply_to="amq.rabbitmq.reply-to", correlation_id="5"), requests.name)
        request = await get(requests)
        same(request.reply_to.startswith("amq.rabbitmq.reply-to."), True)
        await server.default_exchange.publish(Message(b"pong", correlation_id=request.correlation_id), request.reply_to)
        same(await asyncio.wait_for(answer, 5), ("5", b"pong"))
        await requests.delete()


@concurrent
async def exchanges_of_all_kinds_and_bindings_between_them():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        topic, fanout, headers = [
            await channel.declare_exchange(name("x-" + kind.value), kind, durable=True)
            for kind in (ExchangeType.TOPIC, ExchangeType.FANOUT, ExchangeType.HEADERS)]
        queues = [await channel.declare_queue(exclusive=True) for _ in range(3)]
        await queues[0].bind(topic, "*.end")
        await fanout.bind(topic, "#")
        await queues[1].bind(fanout)
        await headers.bind(fanout)
        await queues[2].bind(headers, arguments={"x-match": "any", "a": 1, "b": 2})
        for key, sent in (("x.end", {"a": 1}), ("x", {"b": 2}), ("x.y.end", {"a": 2})):
            await topic.publish(Message(key.encode(), headers=sent), key)
        for queue, wanted in zip(queues, (["x.end"], ["x.end", "x", "x.y.end"], ["x.end", "x"])):
            same([(await get(queue)).body.decode() for _ in wanted], wanted)
            same(await queue.get(fail=False), None)
        for exchange in (topic, fanout, headers):
            await exchange.delete()


@concurrent
async def errors_have_their_codes_and_texts():
    async with await aio_pika.connect(URI) as connection, await aio_pika.connect(URI) as other:
        async def fresh():
            return await connection.channel()
        durable = await (await fresh()).declare_queue(name("errors"), durable=True)
        missing = name("missing")
        await refused(aio_pika.exceptions.ChannelNotFoundEntity, "NOT_FOUND - no queue '%s' in vhost '/'" % missing,
                      (await fresh()).declare_queue(missing, passive=True))
        await refused(aio_pika.exceptions.ChannelNotFoundEntity, "NOT_FOUND - no exchange '%s' in vhost '/'" % missing,
                      (await fresh()).declare_exchange(missing, passive=True))
        await refused(aio_pika.exceptions.ChannelPreconditionFailed,
                      "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' in vhost '/': "
                      "received 'false' but current is 'true'" % durable.name,
                      (await fresh()).declare_queue(durable.name, durable=False))
        locked = await (await other.channel()).declare_queue(exclusive=True)
        await refused(aiormq.exceptions.ChannelLockedResource,
                      "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s' in vhost '/'. It could be "
                      "originally declared on another connection or the exclusive property value does not match that "
                      "of the original declaration." % locked.name,
                      (await fresh()).declare_queue(locked.name, passive=True))
        await refused(aiormq.exceptions.ChannelAccessRefused,
                      "ACCESS_REFUSED - queue name 'amq.interop' contains reserved prefix 'amq.*'",
                      (await fresh()).declare_queue("amq.interop"))
        await durable.delete()


@concurrent
async def immediate_is_540():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        closed = asyncio.get_running_loop().create_future()
        connection.close_callbacks.add(lambda _, error: closed.done() or closed.set_result(error))
        try:
            await channel.default_exchange.publish(Message(b"x"), "x", immediate=True)
        except (aio_pika.exceptions.AMQPError, asyncio.CancelledError):
            pass
        same("NOT_IMPLEMENTED - immediate=true" in str(await asyncio.wait_for(closed, 5)), True)


@concurrent
async def iterator_ends_when_its_queue_is_deleted():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name("cancelled"), durable=True)
        cancelled = asyncio.get_running_loop().create_future()
        underlying = await channel.get_underlay_channel()
        on_cancel = underlying._on_cancel_frame

        async def seen(frame):
            cancelled.set_result(frame.consumer_tag)
            return await on_cancel(frame)
        underlying._on_cancel_frame = seen

        async def keep(_message):
            pass
        tag = await queue.consume(keep)
        await (await connection.channel()).queue_delete(queue.name)
        same(await asyncio.wait_for(cancelled, 5), tag)


@concurrent
async def dead_letters_by_ttl_and_priorities():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        dead = await channel.declare_queue(name("dead"), durable=True)
        queue = await channel.declare_queue(name("ttl"), durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name, "x-message-ttl": 60000})
        await channel.default_exchange.publish(Message(b"x", expiration=0.1), queue.name)
        message = await get(dead)
        death, = message.headers["x-death"]
        same((death["reason"], death["queue"], death["count"], death["exchange"], death["routing-keys"],
              death["original-expiration"]), ("expired", queue.name, 1, "", [queue.name], "100"))
        same(message.expiration, None)
        await queue.delete()
        await dead.delete()
        ranked = await channel.declare_queue(name("priority"), durable=True, arguments={"x-max-priority": 5})
        for priority in (0, 5, 2):
            await channel.default_exchange.publish(Message(b"%d" % priority, priority=priority), ranked.name)
        same([(await get(ranked)).body for _ in range(3)], [b"5", b"2", b"0"])
        await ranked.delete()


@concurrent
async def all_table_types_come_back():
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        headers = {
            "bool": True, "false": False, "byte": 5, "short": -300, "int": 70000, "long": 2 ** 40,
            "negative": -(2 ** 40), "float": 1.5, "decimal": decimal.Decimal("3.14"),
            "time": datetime.datetime(2024, 2, 29, 12, 30, 15, tzinfo=datetime.timezone.utc),
            "text": "häre", "bytes": bytearray(b"\x00\xff"), "void": None, "array": [1, "two", [3]],
            "table": {"a": {"b": True}},
        }
        await channel.default_exchange.publish(Message(b"x", headers=headers), queue.name)
        same(dict((await get(queue)).headers), headers)


@concurrent
async def large_body():
    body = os.urandom(1 << 20) * 5
    async with await aio_pika.connect(URI) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await channel.default_exchange.publish(Message(body), queue.name)
        same((await get(queue)).body == body, True)


@concurrent
async def idle_connection_lives_on_heartbeats():
    async with await aio_pika.connect(URI + "?heartbeat=1") as connection:
        channel = await connection.channel()
        await asyncio.sleep(5)
        await channel.declare_queue(exclusive=True)


@concurrent
async def robust_connection_recovers_after_a_kill():
    connection = await aio_pika.connect_robust(URI, reconnect_interval=0.2)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=5)
        exchange = await channel.declare_exchange(name("durable"), ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(name("durable"), durable=True)
        await queue.bind(exchange, "a.#")
        own = await channel.declare_queue(name("own"), exclusive=True)
        await own.bind(exchange, "a.#")
        got = []

        async def keep(message):
            async with message.process():
                got.append(message.body)
        await own.consume(keep)
        await exchange.publish(Message(b"before"), "a.b")
        await until(lambda: got == [b"before"])
        reconnected = asyncio.Event()
        connection.reconnect_callbacks.add(lambda *_: reconnected.set())
        await asyncio.get_running_loop().run_in_executor(None, restart_broker)
        await asyncio.wait_for(reconnected.wait(), 30)
        await connection.ready()
        await exchange.publish(Message(b"after"), "a.c")
        await until(lambda: got == [b"before", b"after"])
        async with await aio_pika.connect(URI) as plain:
            other = await plain.channel()
            kept = await other.declare_queue(queue.name, durable=True)
            same((await get(kept)).body in (b"before", b"after"), True)
        await queue.delete(if_empty=False)
        await exchange.delete()


@concurrent
async def durable_definitions_survive_a_kill_without_recovery():
    connection = await aio_pika.connect(URI)
    channel = await connection.channel()
    exchange = await channel.declare_exchange(name("kept"), ExchangeType.DIRECT, durable=True)
    queue = await channel.declare_queue(name("kept"), durable=True)
    await queue.bind(exchange, "k")
    lost = asyncio.get_running_loop().create_future()
    connection.close_callbacks.add(lambda _, error: lost.done() or lost.set_result(error))
    await asyncio.get_running_loop().run_in_executor(None, restart_broker)
    same(isinstance(await asyncio.wait_for(lost, 10), (OSError, aio_pika.exceptions.AMQPError)), True)
    async with await aio_pika.connect(URI) as again:
        channel = await again.channel(on_return_raises=True)
        exchange = await channel.get_exchange(name("kept"))
        await exchange.publish(Message(b"x"), "k", mandatory=True)
        queue = await channel.get_queue(name("kept"))
        same((await get(queue)).body, b"x")
        await queue.delete()
        await exchange.delete()


run_all()
