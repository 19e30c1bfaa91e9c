<?php
// php-amqplib: the library of PHP's web shops; logs in by AMQPLAIN unless told otherwise.
declare(strict_types=1);

require '/usr/share/php/PhpAmqpLib/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPBasicCancelException;
use PhpAmqpLib\Exception\AMQPConnectionClosedException;
use PhpAmqpLib\Exception\AMQPExceptionInterface;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

const WAIT_SECONDS_MAX = 10;

class Skip extends RuntimeException
{
}

$checks = [];

function check(string $label, callable $run): void
{
    global $checks;
    $checks[$label] = $run;
}

function name(string $suffix): string
{
    return 'interop.' . getmypid() . '.' . $suffix;
}

function same($got, $wanted): void
{
    if ($got !== $wanted) {
        throw new RuntimeException('got ' . json_encode($got) . ', wanted ' . json_encode($wanted));
    }
}

/** Waits until the probe gives something other than null, and gives that. */
function eventually(callable $probe)
{
    $deadline = microtime(true) + WAIT_SECONDS_MAX;
    while (true) {
        $got = $probe();
        if ($got !== null) {
            return $got;
        }
        if (microtime(true) > $deadline) {
            throw new RuntimeException('did not come within ' . WAIT_SECONDS_MAX . ' s');
        }
        usleep(20000);
    }
}

function restartBroker(): void
{
    $command = getenv('BROKER_RESTART_CMD');
    if ($command === false) {
        throw new Skip('no BROKER_RESTART_CMD, the broker is not ours to kill');
    }
    exec($command, $output, $code);
    same($code, 0);
}

function connect(
    ?string $password = null,
    string $vhost = '/',
    string $method = 'PLAIN',
    int $heartbeat = 0
): AMQPStreamConnection {
    $uri = parse_url(getenv('AMQP_URI'));
    return new AMQPStreamConnection($uri['host'], $uri['port'], $uri['user'], $password ?? $uri['pass'], $vhost, false,
        $method, null, 'en_US', 3.0, 12.0, null, false, $heartbeat);
}

function session(callable $run): void
{
    $connection = connect();
    try {
        $run($connection->channel(), $connection);
    } finally {
        if ($connection->isConnected()) {
            $connection->close();
        }
    }
}

function durable(AMQPChannel $channel, string $suffix, array $arguments = []): string
{
    $queue = name($suffix);
    $channel->queue_declare($queue, false, true, false, false, false, new AMQPTable($arguments));
    return $queue;
}

function exclusive(AMQPChannel $channel): string
{
    return $channel->queue_declare('', false, false, true, true)[0];
}

function get(AMQPChannel $channel, string $queue, bool $noAck = true): AMQPMessage
{
    return eventually(fn () => $channel->basic_get($queue, $noAck));
}

function refused(AMQPStreamConnection $connection, int $code, string $text, callable $action): void
{
    try {
        $action($connection->channel());
    } catch (AMQPProtocolChannelException $error) {
        same([$error->getCode(), $error->amqp_reply_text], [$code, $text]);
        same($connection->isConnected(), true);
        return;
    }
    throw new RuntimeException("no error, wanted $code $text");
}

// The library adds the class and method that the broker names as the cause.
check('wrong_password_is_access_refused', function () {
    foreach (['PLAIN', 'AMQPLAIN'] as $method) {
        try {
            connect('wrong', '/', $method);
        } catch (AMQPConnectionClosedException $error) {
            same([$error->getCode(), $error->getMessage()], [403, "ACCESS_REFUSED - Login was refused using " .
                "authentication mechanism $method. For details see the broker logfile.(0, 0)"]);
            continue;
        }
        throw new RuntimeException('logged in with a wrong password');
    }
});

check('missing_vhost_is_530', function () {
    try {
        connect(null, 'interop-none');
    } catch (AMQPConnectionClosedException $error) {
        same([$error->getCode(), $error->getMessage()], [530, 'NOT_ALLOWED - vhost interop-none not found(10, 40)']);
        return;
    }
    throw new RuntimeException('opened a vhost that does not exist');
});

check('logs_in_by_amqplain', function () {
    $connection = connect(null, '/', 'AMQPLAIN');
    exclusive($connection->channel());
    same($connection->getServerProperties()['product'][1], 'RabbitMQ');
    $connection->close();
});

check('consumes_acknowledges_and_rejects', fn () => session(function (AMQPChannel $channel) {
    $queue = durable($channel, 'consume');
    $channel->basic_qos(0, 2, false);
    for ($number = 0; $number < 4; $number++) {
        $channel->basic_publish(new AMQPMessage((string) $number, ['delivery_mode' => 2]), '', $queue);
    }
    $got = [];
    $tag = $channel->basic_consume($queue, '', false, false, false, false, function (AMQPMessage $message) use (&$got) {
        $got[] = $message;
    });
    same(str_starts_with($tag, 'amq.ctag-'), true);
    while (count($got) < 2) {
        $channel->wait(null, false, 5);
    }
    try {
        $channel->wait(null, false, 0.3);
        throw new RuntimeException('a delivery over the prefetch');
    } catch (AMQPTimeoutException $expected) {
    }
    same(array_map(fn ($m) => [$m->getBody(), $m->getDeliveryTag(), $m->isRedelivered(), $m->getRoutingKey()], $got),
        [['0', 1, false, $queue], ['1', 2, false, $queue]]);
    $channel->basic_ack(2, true);
    while (count($got) < 4) {
        $channel->wait(null, false, 5);
    }
    $channel->basic_reject(4, false);
    $channel->basic_nack(3, false, true);
    while (count($got) < 5) {
        $channel->wait(null, false, 5);
    }
    same([$got[4]->getBody(), $got[4]->isRedelivered()], ['2', true]);
    $got[4]->ack();
    $channel->basic_cancel($tag);
    same($channel->queue_declare($queue, true), [$queue, 0, 0]);
    $channel->queue_delete($queue);
}));

check('confirms_return_before_the_ack_and_nack', fn () => session(function (AMQPChannel $channel) {
    $queue = durable($channel, 'confirm', ['x-max-length' => 1, 'x-overflow' => 'reject-publish']);
    $events = [];
    $channel->set_ack_handler(function (AMQPMessage $message) use (&$events) {
        $events[] = 'ack ' . $message->getBody();
    });
    $channel->set_nack_handler(function (AMQPMessage $message) use (&$events) {
        $events[] = 'nack ' . $message->getBody();
    });
    $channel->set_return_listener(function ($code, $text, $exchange, $key, AMQPMessage $message) use (&$events) {
        $events[] = "return $code $text " . $message->getBody();
    });
    $channel->confirm_select();
    $channel->basic_publish(new AMQPMessage('fits', ['delivery_mode' => 2]), '', $queue, true);
    $channel->wait_for_pending_acks_returns(5);
    $channel->basic_publish(new AMQPMessage('lost'), '', name('nowhere'), true);
    $channel->wait_for_pending_acks_returns(5);
    $channel->basic_publish(new AMQPMessage('too much'), '', $queue, true);
    $channel->wait_for_pending_acks_returns(5);
    same($events, ['ack fits', 'return 312 NO_ROUTE lost', 'ack lost', 'nack too much']);
    $channel->queue_delete($queue);
}));

check('transaction_commits_and_rolls_back', fn () => session(function (AMQPChannel $channel, $connection) {
    $queue = durable($channel, 'tx');
    $watcher = $connection->channel();
    $channel->tx_select();
    $channel->basic_publish(new AMQPMessage('dropped'), '', $queue);
    $channel->tx_rollback();
    $channel->basic_publish(new AMQPMessage('kept'), '', $queue);
    same($watcher->basic_get($queue, true), null);
    $channel->tx_commit();
    same(get($watcher, $queue)->getBody(), 'kept');
    same($watcher->basic_get($queue, true), null);
    $watcher->queue_delete($queue);
}));

check('rpc_by_direct_reply_to_and_by_a_reply_queue', fn () => session(function (AMQPChannel $server) {
    session(function (AMQPChannel $client) use ($server) {
        $requests = durable($server, 'rpc');
        foreach (['amq.rabbitmq.reply-to', exclusive($client)] as $replyTo) {
            $reply = null;
            $client->basic_consume($replyTo, '', false, true, false, false, function ($message) use (&$reply) {
                $reply = [$message->getBody(), $message->get('correlation_id')];
            });
            $client->basic_publish(new AMQPMessage('ping', ['reply_to' => $replyTo, 'correlation_id' => '13']), '',
                $requests);
            $request = get($server, $requests);
            same(str_starts_with($request->get('reply_to'), $replyTo), true);
            $server->basic_publish(new AMQPMessage('pong', ['correlation_id' => $request->get('correlation_id')]), '',
                $request->get('reply_to'));
            $client->wait(null, false, 5);
            same($reply, ['pong', '13']);
        }
        $server->queue_delete($requests);
    });
}));

check('exchanges_of_all_kinds_and_bindings_between_them', fn () => session(function (AMQPChannel $channel) {
    [$topic, $fanout, $headers] = [name('topic'), name('fanout'), name('headers')];
    foreach ([[$topic, 'topic'], [$fanout, 'fanout'], [$headers, 'headers']] as [$exchange, $kind]) {
        $channel->exchange_declare($exchange, $kind, false, true, false);
    }
    $channel->exchange_bind($fanout, $topic, '#');
    $channel->exchange_bind($headers, $fanout);
    $queues = [exclusive($channel), exclusive($channel), exclusive($channel)];
    $channel->queue_bind($queues[0], $topic, 'a.*');
    $channel->queue_bind($queues[1], $fanout);
    $channel->queue_bind($queues[2], $headers, '', false, new AMQPTable(['x-match' => 'all', 'n' => 1]));
    $channel->confirm_select();
    foreach ([['a.b', 1], ['a', 1], ['a.c', 2]] as [$key, $number]) {
        $channel->basic_publish(
            new AMQPMessage($key, ['application_headers' => new AMQPTable(['n' => $number])]), $topic, $key);
    }
    $channel->wait_for_pending_acks(5);
    foreach ([['a.b', 'a.c'], ['a.b', 'a', 'a.c'], ['a.b', 'a']] as $index => $wanted) {
        $got = [];
        while (($message = $channel->basic_get($queues[$index], true)) !== null) {
            $got[] = $message->getBody();
        }
        same($got, $wanted);
    }
    foreach ([$topic, $fanout, $headers] as $exchange) {
        $channel->exchange_delete($exchange);
    }
}));

check('errors_have_their_codes_and_texts', fn () => session(function (AMQPChannel $channel, $connection) {
    session(function (AMQPChannel $owner) use ($channel, $connection) {
        $queue = durable($channel, 'errors');
        $missing = name('missing');
        refused($connection, 404, "NOT_FOUND - no queue '$missing' in vhost '/'",
            fn ($other) => $other->queue_declare($missing, true));
        refused($connection, 404, "NOT_FOUND - no exchange '$missing' in vhost '/'",
            fn ($other) => $other->exchange_declare($missing, 'direct', true));
        refused($connection, 406, "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '$queue' in vhost " .
            "'/': received 'true' but current is 'false'",
            fn ($other) => $other->queue_declare($queue, false, true, false, true));
        $locked = exclusive($owner);
        refused($connection, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '$locked' in " .
            "vhost '/'. It could be originally declared on another connection or the exclusive property value does " .
            'not match that of the original declaration.', fn ($other) => $other->queue_declare($locked, true));
        refused($connection, 403, "ACCESS_REFUSED - queue name 'amq.interop' contains reserved prefix 'amq.*'",
            fn ($other) => $other->queue_declare('amq.interop', false, true, false, false));
        $channel->queue_delete($queue);
    });
}));

check('immediate_is_540', fn () => session(function (AMQPChannel $channel) {
    try {
        $channel->basic_publish(new AMQPMessage('x'), '', 'x', false, true);
        $channel->wait(null, false, 5);
    } catch (AMQPConnectionClosedException $error) {
        same([$error->getCode(), $error->getMessage()], [540, 'NOT_IMPLEMENTED - immediate=true(60, 40)']);
        return;
    }
    throw new RuntimeException('immediate was accepted');
}));

check('consumer_is_told_when_its_queue_is_deleted', fn () => session(function (AMQPChannel $channel, $connection) {
    $queue = durable($channel, 'cancelled');
    $channel->basic_consume($queue, 'told', false, false, false, false, fn () => null);
    $connection->channel()->queue_delete($queue);
    try {
        $channel->wait(null, false, 5);
    } catch (AMQPBasicCancelException $cancelled) {
        same($cancelled->consumerTag, 'told');
        return;
    }
    throw new RuntimeException('no cancel came');
}));

check('dead_letters_and_priorities', fn () => session(function (AMQPChannel $channel) {
    $dead = durable($channel, 'dead');
    $queue = durable($channel, 'ttl', ['x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => $dead]);
    $channel->basic_publish(new AMQPMessage('x', ['expiration' => '100']), '', $queue);
    $message = get($channel, $dead);
    $deaths = $message->get('application_headers')->getNativeData()['x-death'];
    same(count($deaths), 1);
    same(abs($deaths[0]['time']->getTimestamp() - time()) < 30, true);
    same([$deaths[0]['count'], $deaths[0]['reason'], $deaths[0]['queue'], $deaths[0]['exchange'],
        $deaths[0]['routing-keys'], $deaths[0]['original-expiration'], $message->has('expiration')],
        [1, 'expired', $queue, '', [$queue], '100', false]);
    $channel->queue_delete($queue);
    $channel->queue_delete($dead);
    $ranked = durable($channel, 'priority', ['x-max-priority' => 5]);
    foreach ([0, 5, 3] as $priority) {
        $channel->basic_publish(new AMQPMessage((string) $priority, ['priority' => $priority]), '', $ranked);
    }
    eventually(fn () => $channel->queue_declare($ranked, true)[1] === 3 ? true : null);
    foreach (['5', '3', '0'] as $wanted) {
        same(get($channel, $ranked)->getBody(), $wanted);
    }
    $channel->queue_delete($ranked);
}));

check('table_types_that_it_can_write_come_back', fn () => session(function (AMQPChannel $channel) {
    $queue = exclusive($channel);
    $headers = new AMQPTable();
    $headers->set('t', true);
    $headers->set('b', -5, AMQPTable::T_INT_SHORTSHORT);
    $headers->set('s', -300, AMQPTable::T_INT_SHORT);
    $headers->set('I', -70000, AMQPTable::T_INT_LONG);
    $headers->set('l', -(1 << 40), AMQPTable::T_INT_LONGLONG);
    $headers->set('S', 'häre');
    $headers->set('A', [1, 'two', [3]]);
    $headers->set('F', ['deep' => ['yes' => true]]);
    $headers->set('T', new DateTime('@1700000000'));
    $headers->set('V', null);
    $headers->set('x', "\x00\xff\x01", AMQPTable::T_BYTES);
    $channel->basic_publish(new AMQPMessage('', ['application_headers' => $headers]), '', $queue);
    $got = get($channel, $queue)->get('application_headers')->getNativeData();
    same($got['T']->getTimestamp(), 1700000000);
    unset($got['T']);
    same(bin2hex($got['x']), '00ff01');
    unset($got['x']);
    ksort($got);
    $wanted = ['t' => true, 'b' => -5, 's' => -300, 'I' => -70000, 'l' => -(1 << 40),
        'S' => 'häre', 'A' => [1, 'two', [3]], 'F' => ['deep' => ['yes' => true]], 'V' => null];
    ksort($wanted);
    same($got, $wanted);
}));

check('large_body_in_many_frames', fn () => session(function (AMQPChannel $channel) {
    $queue = exclusive($channel);
    $body = random_bytes(5 << 20);
    $channel->basic_publish(new AMQPMessage($body), '', $queue);
    same(get($channel, $queue)->getBody() === $body, true);
}));

check('idle_connection_lives_on_heartbeats', function () {
    $connection = connect(null, '/', 'PLAIN', 1);
    $channel = $connection->channel();
    $idleUntil = microtime(true) + 5;
    while (microtime(true) < $idleUntil) {
        try {
            $channel->wait(null, false, 0.4);
        } catch (AMQPTimeoutException $expected) {
        }
        // Throws if the broker has been silent for two intervals.
        $connection->checkHeartBeat();
    }
    exclusive($channel);
    $connection->close();
});

check('durable_definitions_survive_a_kill', function () {
    $connection = connect();
    $channel = $connection->channel();
    $queue = durable($channel, 'kept');
    $channel->exchange_declare($queue, 'topic', false, true, false);
    $channel->queue_bind($queue, $queue, 'k.#');
    restartBroker();
    try {
        $channel->queue_declare($queue, true);
        throw new RuntimeException('the connection did not notice that the broker was killed');
    } catch (AMQPExceptionInterface $lost) {
    }
    $connection->reconnect();
    $channel = $connection->channel();
    $channel->confirm_select();
    $channel->basic_publish(new AMQPMessage('after'), $queue, 'k.1', true);
    $channel->wait_for_pending_acks_returns(5);
    same(get($channel, $queue)->getBody(), 'after');
    $channel->queue_delete($queue);
    $channel->exchange_delete($queue);
    $connection->close();
});

// A closed socket is told by exceptions; PHP's own notices about it are of no use here.
error_reporting(E_ALL & ~E_NOTICE & ~E_WARNING & ~E_DEPRECATED);
$failed = 0;
foreach ($checks as $label => $run) {
    try {
        $run();
        echo "ok $label\n";
    } catch (Skip $reason) {
        echo "skip $label: {$reason->getMessage()}\n";
    } catch (Throwable $error) {
        $failed++;
        echo "not ok $label: " . get_class($error) . ': ' . preg_replace('/\s+/', ' ', $error->getMessage()) .
            " (line {$error->getLine()})\n";
    }
}
echo '1..' . count($checks) . "\n";
exit($failed > 0 ? 1 : 0);
