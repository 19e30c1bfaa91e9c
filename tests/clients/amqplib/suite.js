// amqplib (Node): the promise and the callback API, confirm channels, and errors as events.
'use strict';

const { execSync } = require('node:child_process');
const { randomBytes } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { isDeepStrictEqual, inspect } = require('node:util');
const amqp = require('amqplib');
const amqpCallbacks = require('amqplib/callback_api');

const URI = process.env.AMQP_URI;
const RESTART = process.env.BROKER_RESTART_CMD;
const CHECK_MS_MAX = 45000;
const checks = [];

class Skip extends Error {}

function check(label, run) {
  checks.push({ label, run });
}

function name(suffix) {
  return `interop.${process.pid}.${suffix}`;
}

function same(got, wanted) {
  if (!isDeepStrictEqual(got, wanted)) {
    throw new Error(`got ${inspect(got, { depth: 9 })}, wanted ${inspect(wanted, { depth: 9 })}`);
  }
}

function within(promise, milliseconds, what) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

async function until(probe, milliseconds = 10000) {
  const started = Date.now();
  while (!(await probe())) {
    if (Date.now() - started > milliseconds) throw new Error(`did not come true within ${milliseconds} ms`);
    await sleep(20);
  }
}

function restartBroker() {
  if (!RESTART) throw new Skip('no BROKER_RESTART_CMD, the broker is not ours to kill');
  execSync(RESTART, { timeout: 60000 });
}

// A connection whose errors are kept, not thrown; closed after `run`.
async function session(run, uri = URI) {
  const connection = await amqp.connect(uri);
  connection.errors = [];
  connection.on('error', (error) => connection.errors.push(error));
  let closed = false;
  connection.on('close', () => { closed = true; });
  try {
    return await run(connection);
  } finally {
    if (!closed) await connection.close().catch(() => {});
  }
}

async function open(connection, kind = 'createChannel') {
  const channel = await connection[kind]();
  channel.error = new Promise((resolve) => { channel.on('error', resolve); });
  return channel;
}

async function durable(channel, suffix, args = {}) {
  const queue = name(suffix);
  await channel.assertQueue(queue, { durable: true, arguments: args });
  return queue;
}

async function exclusive(channel) {
  return (await channel.assertQueue('', { exclusive: true })).queue;
}

async function get(channel, queue, noAck = true) {
  let message;
  await until(async () => {
    message = await channel.get(queue, { noAck });
    return message !== false;
  });
  return message;
}

// `action` on a fresh channel must close it with this code and full text.
async function refused(connection, code, text, action, kind) {
  const channel = await open(connection, kind);
  let thrown;
  try {
    await within(Promise.race([action(channel), channel.error.then((error) => { throw error; })]), 5000, text);
  } catch (error) {
    thrown = error;
  }
  if (!thrown) throw new Error(`no error, wanted ${code} ${text}`);
  const error = await within(channel.error, 5000, text);
  same(error.code, code);
  same(error.message.endsWith(`: ${code} (${text.split(' - ')[0].replace('_', '-')}) with message "${text}"`), true);
}

check('wrong_password_is_access_refused', async () => {
  try {
    await amqp.connect(URI.replace(':guest@', ':wrong@'));
  } catch (error) {
    same(error.message.includes('403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - Login was refused using ' +
      'authentication mechanism PLAIN. For details see the broker logfile."'), true);
    return;
  }
  throw new Error('logged in with a wrong password');
});

check('missing_vhost_is_refused', async () => {
  try {
    await amqp.connect(URI.replace(/[^/]*$/, 'interop-none'));
  } catch (error) {
    // amqplib names only the method that came in place of connection.open-ok.
    same(error.message, 'Expected ConnectionOpenOk; got <ConnectionClose channel:0>');
    return;
  }
  throw new Error('opened a vhost that does not exist');
});

check('frame_max_of_the_uri_is_negotiated', () => session(async (connection) => {
  same(connection.connection.frameMax, 8192);
  const channel = await open(connection);
  const queue = await exclusive(channel);
  channel.sendToQueue(queue, Buffer.alloc(100000, 'x'));
  same((await get(channel, queue)).content.length, 100000);
}, `${URI}?frameMax=8192`));

check('consumes_acknowledges_and_rejects', () => session(async (connection) => {
  const channel = await open(connection);
  const queue = await durable(channel, 'consume');
  await channel.prefetch(2);
  for (let number = 0; number < 4; number += 1) channel.sendToQueue(queue, Buffer.from([number]), { persistent: true });
  const got = [];
  const { consumerTag } = await channel.consume(queue, (message) => got.push(message));
  same(consumerTag.startsWith('amq.ctag-'), true);
  await until(() => got.length >= 2);
  await sleep(300);
  same(got.map((message) => [message.content[0], message.fields.deliveryTag, message.fields.redelivered]),
    [[0, 1, false], [1, 2, false]]);
  same([got[0].properties.deliveryMode, got[0].fields.routingKey, got[0].fields.exchange], [2, queue, '']);
  channel.ack(got[1], true);
  await until(() => got.length === 4);
  channel.reject(got[3], false);
  channel.nack(got[2], false, true);
  await until(() => got.length === 5);
  same([got[4].content[0], got[4].fields.redelivered], [2, true]);
  channel.ack(got[4]);
  await channel.cancel(consumerTag);
  same(await channel.checkQueue(queue), { queue, messageCount: 0, consumerCount: 0 });
  await channel.deleteQueue(queue);
}));

check('prefetch_of_the_channel_is_shared_and_raised', () => session(async (connection) => {
  const channel = await open(connection);
  const queues = [await durable(channel, 'shared1'), await durable(channel, 'shared2')];
  await channel.prefetch(3, true);
  let got = 0;
  for (const queue of queues) {
    for (let number = 0; number < 5; number += 1) channel.sendToQueue(queue, Buffer.from('x'));
    await channel.consume(queue, () => { got += 1; });
  }
  await sleep(400);
  same(got, 3);
  await channel.prefetch(8, true);
  await sleep(400);
  same(got, 8);
  for (const queue of queues) await channel.deleteQueue(queue);
}));

check('acknowledge_all_and_recover', () => session(async (connection) => {
  const channel = await open(connection);
  const queue = await durable(channel, 'recover');
  for (let number = 0; number < 3; number += 1) channel.sendToQueue(queue, Buffer.from([number]));
  for (let number = 0; number < 3; number += 1) await get(channel, queue, false);
  same(await channel.get(queue), false);
  await channel.recover();
  const message = await get(channel, queue, false);
  same([message.content[0], message.fields.redelivered, message.fields.messageCount], [0, true, 2]);
  channel.ackAll();
  await until(async () => (await channel.checkQueue(queue)).messageCount === 2);
  same((await channel.purgeQueue(queue)).messageCount, 2);
  await channel.deleteQueue(queue, { ifEmpty: true, ifUnused: true });
}));

check('confirms_some_of_them_multiple', () => session(async (connection) => {
  const channel = await open(connection, 'createConfirmChannel');
  const queue = await durable(channel, 'confirm');
  let multiple = 0;
  channel.on('ack', (fields) => {
    if (fields.multiple) multiple += 1;
  });
  // The broker may acknowledge one by one, but not thousands of them each by itself.
  for (let round = 0; round < 10 && multiple === 0; round += 1) {
    for (let number = 0; number < 500; number += 1) channel.sendToQueue(queue, Buffer.from('x'), { persistent: true });
    await channel.waitForConfirms();
  }
  same(multiple > 0, true);
  same((await channel.checkQueue(queue)).messageCount % 500, 0);
  await channel.deleteQueue(queue);
}));

check('return_comes_before_its_confirm_and_overflow_is_nacked', () => session(async (connection) => {
  const channel = await open(connection, 'createConfirmChannel');
  const events = [];
  channel.on('return', ({ fields, content }) => {
    events.push([fields.replyCode, fields.replyText, fields.exchange, fields.routingKey, content.toString()]);
  });
  await new Promise((resolve, reject) => {
    channel.publish('', name('nowhere'), Buffer.from('lost'), { mandatory: true }, (error) => {
      events.push('confirmed');
      if (error) reject(error);
      else resolve();
    });
  });
  same(events, [[312, 'NO_ROUTE', '', name('nowhere'), 'lost'], 'confirmed']);
  const queue = await durable(channel, 'overflow', { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
  const outcomes = [];
  for (let number = 0; number < 2; number += 1) {
    channel.sendToQueue(queue, Buffer.from('x'), {}, (error) => outcomes.push(error === null));
  }
  await until(() => outcomes.length === 2);
  same(outcomes, [true, false]);
  await channel.deleteQueue(queue);
}));

check('rpc_by_direct_reply_to_and_by_a_reply_queue', () => session(async (client) => session(async (server) => {
  const asking = await open(client);
  const answering = await open(server);
  const requests = await durable(answering, 'rpc');
  await answering.consume(requests, (message) => {
    if (message === null) return;
    answering.sendToQueue(message.properties.replyTo, Buffer.from(message.content.toString().toUpperCase()),
      { correlationId: message.properties.correlationId });
  }, { noAck: true });
  const own = await exclusive(asking);
  for (const replyTo of ['amq.rabbitmq.reply-to', own]) {
    const reply = new Promise((resolve) => { asking.consume(replyTo, resolve, { noAck: true }); });
    asking.sendToQueue(requests, Buffer.from('ping'), { replyTo, correlationId: replyTo });
    const message = await within(reply, 5000, 'reply');
    same([message.content.toString(), message.properties.correlationId], ['PING', replyTo]);
  }
  await answering.deleteQueue(requests);
})));

check('exchanges_of_all_kinds_and_bindings_between_them', () => session(async (connection) => {
  const channel = await open(connection, 'createConfirmChannel');
  const [topic, fanout, headers, alternate] = ['topic', 'fanout', 'headers', 'alternate'].map((kind) => name(kind));
  await channel.assertExchange(alternate, 'fanout');
  await channel.assertExchange(topic, 'topic', { alternateExchange: alternate });
  await channel.assertExchange(fanout, 'fanout');
  await channel.assertExchange(headers, 'headers');
  await channel.bindExchange(fanout, topic, 'a.#');
  await channel.bindExchange(headers, fanout, '');
  const queues = [];
  for (const [exchange, key, args] of [[topic, 'a.*', {}], [fanout, '', {}],
    [headers, '', { 'x-match': 'all', n: 1 }], [alternate, '', {}]]) {
    const queue = await exclusive(channel);
    await channel.bindQueue(queue, exchange, key, args);
    queues.push(queue);
  }
  for (const [key, n] of [['a.b', 1], ['a', 1], ['a.c', 2], ['b', 1]]) {
    channel.publish(topic, key, Buffer.from(key), { headers: { n } });
  }
  await channel.waitForConfirms();
  const wanted = [['a.b', 'a.c'], ['a.b', 'a', 'a.c'], ['a.b', 'a'], ['b']];
  for (let index = 0; index < queues.length; index += 1) {
    const got = [];
    for (let message = await channel.get(queues[index], { noAck: true }); message;
      message = await channel.get(queues[index], { noAck: true })) got.push(message.content.toString());
    same(got, wanted[index]);
  }
  await channel.unbindExchange(fanout, topic, 'a.#');
  await channel.unbindQueue(queues[0], topic, 'a.*');
  channel.publish(topic, 'a.b', Buffer.from('none'));
  await channel.waitForConfirms();
  same((await get(channel, queues[3])).content.toString(), 'none');
  same(await channel.get(queues[1]), false);
  for (const exchange of [topic, fanout, headers, alternate]) await channel.deleteExchange(exchange);
}));

check('errors_have_their_codes_and_texts', () => session(async (connection) => session(async (other) => {
  const channel = await open(connection);
  const queue = await durable(channel, 'errors', { 'x-max-length': 10 });
  const exchange = name('errors');
  const missing = name('missing');
  await channel.assertExchange(exchange, 'direct');
  await refused(connection, 404, `NOT_FOUND - no queue '${missing}' in vhost '/'`, (c) => c.checkQueue(missing));
  await refused(connection, 404, `NOT_FOUND - no exchange '${missing}' in vhost '/'`, (c) => c.checkExchange(missing));
  await refused(connection, 404, `NOT_FOUND - no exchange '${missing}' in vhost '/'`, (c) => {
    c.publish(missing, '', Buffer.from('x'));
    return c.waitForConfirms();
  }, 'createConfirmChannel');
  await refused(connection, 404, `NOT_FOUND - no queue '${missing}' in vhost '/'`,
    (c) => c.bindQueue(missing, 'amq.direct', 'x'));
  await refused(connection, 406, `PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '${queue}' in ` +
    "vhost '/': received '11' but current is '10'",
  (c) => c.assertQueue(queue, { arguments: { 'x-max-length': 11 } }));
  await refused(connection, 406, `PRECONDITION_FAILED - inequivalent arg 'type' for exchange '${exchange}' in ` +
    "vhost '/': received 'topic' but current is 'direct'", (c) => c.assertExchange(exchange, 'topic'));
  const locked = await exclusive(await open(other));
  await refused(connection, 405, 'RESOURCE_LOCKED - cannot obtain exclusive access to locked queue ' +
    `'${locked}' in vhost '/'. It could be originally declared on another connection or the exclusive property value ` +
    'does not match that of the original declaration.', (c) => c.checkQueue(locked));
  await refused(connection, 403, "ACCESS_REFUSED - queue name 'amq.interop' contains reserved prefix 'amq.*'",
    (c) => c.assertQueue('amq.interop'));
  await refused(connection, 406, 'PRECONDITION_FAILED - unknown delivery tag 82', async (c) => {
    c.ack({ fields: { deliveryTag: 82 } });
    await c.checkQueue(queue);
  });
  await channel.deleteQueue(queue);
  await channel.deleteExchange(exchange);
  same(connection.errors, []);
})));

check('consumer_tag_used_twice_is_530_and_closes_the_connection', () => session(async (connection) => {
  const channel = await open(connection);
  const queue = await exclusive(channel);
  await channel.consume(queue, () => {}, { consumerTag: 'twice' });
  channel.consume(queue, () => {}, { consumerTag: 'twice' }).catch(() => {});
  await until(() => connection.errors.length > 0, 5000);
  same(connection.errors[0].code, 530);
  same(connection.errors[0].message.endsWith('with message "NOT_ALLOWED - attempt to reuse consumer tag \'twice\'"'),
    true);
}));

check('consumer_gets_null_when_its_queue_is_deleted', () => session(async (connection) => {
  const channel = await open(connection);
  const queue = await durable(channel, 'cancelled');
  let consumer;
  const first = new Promise((resolve) => { consumer = resolve; });
  await channel.consume(queue, consumer);
  await (await open(connection)).deleteQueue(queue);
  same(await within(first, 5000, 'cancel'), null);
  await exclusive(channel);
}));

check('dead_letters_and_priorities', () => session(async (connection) => {
  const channel = await open(connection);
  const dead = await durable(channel, 'dead');
  const queue = name('ttl');
  await channel.assertQueue(queue, { messageTtl: 100, deadLetterExchange: '', deadLetterRoutingKey: dead });
  const before = Math.floor(Date.now() / 1000);
  channel.sendToQueue(queue, Buffer.from('x'));
  const { properties, fields, content } = await get(channel, dead);
  same([fields.exchange, fields.routingKey, content.toString()], ['', dead, 'x']);
  const [death] = properties.headers['x-death'];
  same(Math.abs(death.time.value - before) < 10, true);
  same([death.time['!'], death.count, death.reason, death.queue, death.exchange, death['routing-keys']],
    ['timestamp', 1, 'expired', queue, '', [queue]]);
  await channel.deleteQueue(queue);
  await channel.deleteQueue(dead);
  const ranked = name('priority');
  await channel.assertQueue(ranked, { maxPriority: 5 });
  for (const priority of [0, 5, 3]) channel.sendToQueue(ranked, Buffer.from([priority]), { priority });
  await until(async () => (await channel.checkQueue(ranked)).messageCount === 3);
  for (const priority of [5, 3, 0]) same((await get(channel, ranked)).content[0], priority);
  await channel.deleteQueue(ranked);
}));

check('all_table_types_come_back', () => session(async (connection) => {
  const channel = await open(connection);
  const queue = await exclusive(channel);
  const headers = {
    bool: true, no: false, int8: -5, int16: -300, int32: -70000, int64: 2 ** 40, double: -2.25, text: 'häre',
    nothing: null, array: [1, 'two', [null]], table: { deep: { yes: true } }, bytes: Buffer.from([0, 255, 1]),
    time: { '!': 'timestamp', value: 1700000000 }, float: { '!': 'float', value: 1.5 },
    decimal: { '!': 'decimal', value: { digits: 314, places: 2 } },
    byte: { '!': 'int8', value: 7 }, short: { '!': 'int16', value: 7 }, long: { '!': 'int64', value: 7 },
  };
  channel.sendToQueue(queue, Buffer.alloc(0), { headers });
  const got = (await get(channel, queue)).properties.headers;
  // Numbers of all widths come back as plain numbers.
  same(got, { ...headers, float: 1.5, byte: 7, short: 7, long: 7 });
}));

check('large_body_in_many_frames', () => session(async (connection) => {
  const channel = await open(connection);
  const queue = await exclusive(channel);
  const body = randomBytes(5 << 20);
  channel.sendToQueue(queue, body);
  same((await get(channel, queue)).content.equals(body), true);
}));

check('callback_api', () => within(new Promise((resolve, reject) => {
  amqpCallbacks.connect(URI, (failed, connection) => {
    if (failed) return reject(failed);
    return connection.createChannel((error, channel) => {
      if (error) return reject(error);
      return channel.assertQueue('', { exclusive: true }, (problem, { queue }) => {
        if (problem) return reject(problem);
        channel.consume(queue, (message) => {
          channel.ack(message);
          connection.close(() => (message.content.toString() === 'x' ? resolve() : reject(new Error('not x'))));
        });
        return channel.sendToQueue(queue, Buffer.from('x'));
      });
    });
  });
}), 5000, 'callbacks'));

check('idle_connection_lives_on_heartbeats', () => session(async (connection) => {
  await sleep(5000);
  same(connection.errors, []);
  await exclusive(await open(connection));
}, `${URI}?heartbeat=1`));

check('durable_definitions_survive_a_kill', async () => {
  const queue = name('kept');
  const exchange = name('kept');
  await session(async (connection) => {
    const channel = await open(connection);
    await channel.assertExchange(exchange, 'topic', { durable: true });
    await channel.assertQueue(queue, { durable: true });
    await channel.bindQueue(queue, exchange, 'k.#');
    const closed = new Promise((resolve) => { connection.on('close', resolve); });
    restartBroker();
    await within(closed, 10000, 'close event');
  });
  let again;
  await until(async () => {
    again = await amqp.connect(URI).catch(() => null);
    return again !== null;
  });
  const channel = await open(again, 'createConfirmChannel');
  channel.publish(exchange, 'k.1', Buffer.from('after'), { mandatory: true });
  await channel.waitForConfirms();
  same((await get(channel, queue)).content.toString(), 'after');
  await channel.deleteQueue(queue);
  await channel.deleteExchange(exchange);
  await again.close();
});

async function main() {
  let failed = 0;
  for (const { label, run } of checks) {
    try {
      await within(run(), CHECK_MS_MAX, label);
      console.log(`ok ${label}`);
    } catch (error) {
      if (error instanceof Skip) {
        console.log(`skip ${label}: ${error.message}`);
      } else {
        failed += 1;
        console.log(`not ok ${label}: ${String(error && error.message).replace(/\s+/g, ' ')}`);
      }
    }
  }
  console.log(`1..${checks.length}`);
  process.exit(failed ? 1 : 0);
}

main();
