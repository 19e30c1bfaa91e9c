# frozen_string_literal: true

# Bunny: its exception classes, its consumer threads, and the recovery that it does by itself.

require 'bunny'
require 'securerandom'
require 'timeout'

URI_OF_BROKER = ENV.fetch('AMQP_URI')
RESTART = ENV['BROKER_RESTART_CMD']
CHECK_SECONDS_MAX = 45
CHECKS = []

class Skip < StandardError; end

def check(label, &block)
  CHECKS << [label, block]
end

def name(suffix)
  "interop.#{Process.pid}.#{suffix}"
end

def same(got, wanted)
  raise "got #{got.inspect}, wanted #{wanted.inspect}" unless got == wanted
end

def eventually(wanted, seconds = 10)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
  loop do
    got = yield
    return if got == wanted
    raise "after #{seconds} s got #{got.inspect}, wanted #{wanted.inspect}" if
      Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

    sleep 0.02
  end
end

def restart_broker
  raise Skip, 'no BROKER_RESTART_CMD, the broker is not ours to kill' unless RESTART

  same(system(RESTART), true)
end

# Takes the errors that Bunny would otherwise raise in the thread that opened the connection.
Losses = Struct.new(:seen) do
  def raise(error, *)
    seen << error
  end
end

QUIET = Logger.new(File::NULL)

def connect(options = {}, uri = URI_OF_BROKER)
  Bunny.new(uri, { logger: QUIET, automatically_recover: false }.merge(options)).tap(&:start)
end

def session(options = {})
  connection = connect(options)
  yield connection, connection.create_channel
ensure
  connection.close if connection&.open?
end

# The next message of the queue, waited for: delivery, properties, body.
def get(channel, queue, manual_ack: false)
  message = nil
  eventually(true) do
    message = channel.basic_get(queue, manual_ack: manual_ack)
    !message[0].nil?
  end
  message
end

def empty?(channel, queue)
  channel.basic_get(queue, manual_ack: false)[0].nil?
end

def refused(connection, kind, code, text)
  channel = connection.create_channel
  begin
    yield channel
  rescue kind => e
    same([e.channel_close.reply_code, e.message], [code, text])
    same(connection.open?, true)
    return
  end
  raise "no error, wanted #{code} #{text}"
end

check 'wrong_password_is_an_authentication_failure' do
  connect({}, URI_OF_BROKER.sub(':guest@', ':wrong@'))
  raise 'logged in with a wrong password'
rescue Bunny::PossibleAuthenticationFailureError => e
  # Its parent class would mean that the socket was closed without the broker's 403.
  same(e.class, Bunny::AuthenticationFailureError)
end

check 'missing_vhost_is_not_allowed' do
  connect({}, URI_OF_BROKER.sub(%r{[^/]*\z}, 'interop-none'))
  raise 'opened a vhost that does not exist'
rescue Bunny::NotAllowedError => e
  same(e.message.include?('vhost interop-none not found'), true)
end

check 'consumes_acknowledges_and_rejects' do
  session do |_, channel|
    queue = channel.queue(name('consume'), durable: true)
    channel.prefetch(2)
    4.times { |number| queue.publish(number.to_s, persistent: true) }
    got = Queue.new
    consumer = queue.subscribe(manual_ack: true) { |delivery, properties, body| got << [delivery, properties, body] }
    eventually(2) { got.size }
    sleep 0.3
    same(got.size, 2)
    first, second = got.pop, got.pop
    same([first[2], first[0].redelivered?, first[0].routing_key, first[1].delivery_mode], ['0', false, queue.name, 2])
    channel.ack(second[0].delivery_tag, true)
    eventually(2) { got.size }
    third, fourth = got.pop, got.pop
    channel.reject(fourth[0].delivery_tag, false)
    channel.nack(third[0].delivery_tag, false, true)
    again = got.pop
    same([again[2], again[0].redelivered?], ['2', true])
    channel.ack(again[0].delivery_tag)
    consumer.cancel
    eventually(0) { queue.message_count }
    same(queue.consumer_count, 0)
    queue.delete
  end
end

check 'prefetch_of_the_channel_is_shared_and_raised' do
  session do |_, channel|
    queues = 2.times.map { |number| channel.queue(name("shared#{number}"), durable: true) }
    channel.basic_qos(3, true)
    got = Queue.new
    queues.each do |queue|
      5.times { queue.publish('x') }
      queue.subscribe(manual_ack: true) { |delivery, *| got << delivery }
    end
    sleep 0.4
    same(got.size, 3)
    channel.basic_qos(8, true)
    sleep 0.4
    same(got.size, 8)
    queues.each(&:delete)
  end
end

check 'confirms_returns_and_nacks' do
  session do |_, channel|
    channel.confirm_select
    queue = channel.queue(name('confirm'), durable: true)
    500.times { queue.publish('x', persistent: true) }
    same(channel.wait_for_confirms, true)
    same([queue.message_count, channel.unconfirmed_set.size], [500, 0])
    queue.delete
    events = Queue.new
    exchange = channel.default_exchange
    exchange.on_return { |returned, _, body| events << [returned.reply_code, returned.reply_text, body] }
    exchange.publish('lost', routing_key: name('nowhere'), mandatory: true)
    same(channel.wait_for_confirms, true)
    # Returns come to a thread of their own, but were read before the confirm.
    same(Timeout.timeout(2) { events.pop }, [312, 'NO_ROUTE', 'lost'])
    full = channel.queue(name('full'), durable: true,
                                       arguments: { 'x-max-length' => 1, 'x-overflow' => 'reject-publish' })
    full.publish('fits')
    same(channel.wait_for_confirms, true)
    full.publish('too much')
    same(channel.wait_for_confirms, false)
    same(channel.nacked_set.size, 1)
    full.delete
  end
end

check 'transaction_commits_and_rolls_back' do
  session do |connection, channel|
    watcher = connection.create_channel
    queue = watcher.queue(name('tx'), durable: true)
    channel.tx_select
    channel.basic_publish('dropped', '', queue.name)
    channel.tx_rollback
    channel.basic_publish('kept', '', queue.name)
    same(empty?(watcher, queue.name), true)
    channel.tx_commit
    same(get(watcher, queue.name)[2], 'kept')
    same(empty?(watcher, queue.name), true)
    queue.delete
  end
end

check 'rpc_by_direct_reply_to_and_by_a_reply_queue' do
  session do |_, client|
    session do |_, server|
      requests = server.queue(name('rpc'), durable: true)
      requests.subscribe do |_, properties, body|
        server.default_exchange.publish(body.upcase, routing_key: properties.reply_to,
                                                     correlation_id: properties.correlation_id)
      end
      own = client.queue('', exclusive: true).name
      same(own.start_with?('amq.gen-'), true)
      ['amq.rabbitmq.reply-to', own].each do |reply_to|
        replies = Queue.new
        client.basic_consume(reply_to, '', true) { |_, properties, body| replies << [properties.correlation_id, body] }
        client.default_exchange.publish('ping', routing_key: requests.name, reply_to: reply_to, correlation_id: '12')
        same(Timeout.timeout(5) { replies.pop }, %w[12 PING])
      end
      requests.delete
    end
  end
end

check 'exchanges_of_all_kinds_and_bindings_between_them' do
  session do |_, channel|
    channel.confirm_select
    topic = channel.topic(name('topic'), durable: true)
    fanout = channel.fanout(name('fanout'), durable: true)
    headers = channel.headers(name('headers'), durable: true)
    fanout.bind(topic, routing_key: '#')
    headers.bind(fanout)
    queues = 3.times.map { channel.queue('', exclusive: true) }
    queues[0].bind(topic, routing_key: '*.end')
    queues[1].bind(fanout)
    queues[2].bind(headers, arguments: { 'x-match' => 'any', 'n' => 1, 't' => 'x' })
    [['a.end', 1], ['a', 1], ['b.end', 2]].each do |key, number|
      topic.publish(key, routing_key: key, headers: { 'n' => number })
    end
    same(channel.wait_for_confirms, true)
    [%w[a.end b.end], %w[a.end a b.end], %w[a.end a]].each_with_index do |wanted, index|
      same(wanted.map { get(channel, queues[index].name)[2] }, wanted)
      same(empty?(channel, queues[index].name), true)
    end
    fanout.unbind(topic, routing_key: '#')
    topic.publish('none', routing_key: 'none')
    same(channel.wait_for_confirms, true)
    same(empty?(channel, queues[1].name), true)
    [topic, fanout, headers].each(&:delete)
  end
end

check 'errors_have_their_codes_and_texts' do
  session do |connection, channel|
    session do |_, owner|
      queue = channel.queue(name('errors'), durable: true).name
      missing = name('missing')
      refused(connection, Bunny::NotFound, 404, "NOT_FOUND - no queue '#{missing}' in vhost '/'") do |other|
        other.queue(missing, passive: true)
      end
      refused(connection, Bunny::NotFound, 404, "NOT_FOUND - no exchange '#{missing}' in vhost '/'") do |other|
        other.exchange(missing, type: 'direct', passive: true)
      end
      refused(connection, Bunny::PreconditionFailed, 406,
              "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '#{queue}' in vhost '/': " \
              "received 'false' but current is 'true'") { |other| other.queue(queue, durable: false) }
      locked = owner.queue('', exclusive: true).name
      refused(connection, Bunny::ResourceLocked, 405,
              "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '#{locked}' in vhost '/'. It could " \
              'be originally declared on another connection or the exclusive property value does not match that of ' \
              'the original declaration.') { |other| other.queue(locked, passive: true) }
      refused(connection, Bunny::AccessRefused, 403,
              "ACCESS_REFUSED - queue name 'amq.interop' contains reserved prefix 'amq.*'") do |other|
        other.queue('amq.interop', durable: true)
      end
      channel.queue_delete(queue)
    end
  end
end

check 'unknown_delivery_tag_has_exactly_this_text' do
  session do |connection, _|
    channel = connection.create_channel
    errors = Queue.new
    channel.on_error { |_, close| errors << [close.reply_code, close.reply_text] }
    channel.basic_ack(82)
    same(Timeout.timeout(5) { errors.pop }, [406, 'PRECONDITION_FAILED - unknown delivery tag 82'])
  end
end

check 'consumer_is_told_when_its_queue_is_deleted' do
  session do |connection, channel|
    queue = channel.queue(name('cancelled'), durable: true)
    told = Queue.new
    consumer = Bunny::Consumer.new(channel, queue, 'told', false)
    consumer.on_cancellation { |cancel| told << cancel.consumer_tag }
    channel.basic_consume_with(consumer)
    connection.create_channel.queue_delete(queue.name)
    same(Timeout.timeout(5) { told.pop }, 'told')
    same(channel.open?, true)
  end
end

check 'dead_letters_and_priorities' do
  session do |_, channel|
    dead = channel.queue(name('dead'), durable: true)
    queue = channel.queue(name('ttl'), durable: true, arguments: {
                            'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => dead.name
                          })
    queue.publish('x', expiration: '100')
    _, properties, body = get(channel, dead.name)
    death, = properties[:headers]['x-death']
    same(body, 'x')
    same([death['count'], death['reason'], death['queue'], death['exchange'], death['routing-keys'],
          death['original-expiration'], (Time.now - death['time']).abs < 30],
         [1, 'expired', queue.name, '', [queue.name], '100', true])
    same(properties[:expiration], nil)
    queue.publish('rejected')
    delivery, = get(channel, queue.name, manual_ack: true)
    channel.reject(delivery.delivery_tag, false)
    same(get(channel, dead.name)[1][:headers]['x-death'][0]['reason'], 'rejected')
    queue.delete
    dead.delete
    ranked = channel.queue(name('priority'), durable: true, arguments: { 'x-max-priority' => 5 })
    [0, 5, 3].each { |priority| ranked.publish(priority.to_s, priority: priority) }
    eventually(3) { ranked.message_count }
    same(3.times.map { get(channel, ranked.name)[2] }, %w[5 3 0])
    ranked.delete
  end
end

check 'all_table_types_come_back' do
  session do |_, channel|
    queue = channel.queue('', exclusive: true)
    headers = {
      'bool' => true, 'no' => false, 'int' => -5, 'long' => 2**40, 'negative' => -(2**40), 'double' => -2.25,
      'text' => 'häre', 'nothing' => nil, 'array' => [1, 'two', ['three']], 'table' => { 'deep' => { 'yes' => true } },
      'time' => Time.at(1_700_000_000)
    }
    queue.publish('', headers: headers)
    got = get(channel, queue.name)[1][:headers]
    got['text'] = got['text'].dup.force_encoding('UTF-8')
    same(got, headers)
  end
end

check 'large_body_in_many_frames' do
  body = SecureRandom.random_bytes(5 << 20)
  [131_072, 8192].each do |frame_max|
    session(frame_max: frame_max) do |connection, channel|
      same(connection.frame_max, frame_max)
      queue = channel.queue('', exclusive: true)
      queue.publish(body)
      same(get(channel, queue.name)[2] == body, true)
    end
  end
end

check 'idle_connection_lives_on_heartbeats' do
  session(heartbeat: 1) do |connection, channel|
    same(connection.heartbeat, 1)
    sleep 5
    same(connection.open?, true)
    channel.queue('', exclusive: true)
  end
end

check 'own_recovery_after_a_kill' do
  connection = connect(automatically_recover: true, network_recovery_interval: 0.2, recovery_attempts: nil)
  channel = connection.create_channel
  exchange = channel.topic(name('kept'), durable: true)
  queue = channel.queue(name('kept'), durable: true)
  queue.bind(exchange, routing_key: 'k.#')
  own = channel.queue('', exclusive: true)
  own.bind(exchange, routing_key: 'k.#')
  got = Queue.new
  own.subscribe { |_, _, body| got << body }
  exchange.publish('before', routing_key: 'k.1')
  same(Timeout.timeout(5) { got.pop }, 'before')
  recovered = Queue.new
  connection.after_recovery_completed { recovered << true } if connection.respond_to?(:after_recovery_completed)
  restart_broker
  eventually(true, 20) { connection.open? && channel.open? }
  Timeout.timeout(20) { recovered.pop }
  exchange.publish('after', routing_key: 'k.2')
  same(Timeout.timeout(5) { got.pop }, 'after')
  queue.delete
  exchange.delete
  connection.close
end

check 'durable_definitions_survive_a_kill_without_recovery' do
  losses = Losses.new([])
  connection = connect(session_error_handler: losses)
  channel = connection.create_channel
  channel.queue(name('plain'), durable: true).bind(channel.direct(name('plain'), durable: true), routing_key: 'k')
  restart_broker
  eventually(1) { losses.seen.size }
  same(losses.seen.first.class, Bunny::NetworkFailure)
  session do |_, again|
    again.confirm_select
    again.exchange(name('plain'), type: 'direct', passive: true).publish('after', routing_key: 'k', mandatory: true)
    same(again.wait_for_confirms, true)
    same(get(again, name('plain'))[2], 'after')
    again.queue_delete(name('plain'))
    again.exchange_delete(name('plain'))
  end
end

failed = CHECKS.count do |label, block|
  Timeout.timeout(CHECK_SECONDS_MAX, &block)
  puts "ok #{label}"
  false
rescue Skip => e
  puts "skip #{label}: #{e.message}"
  false
rescue StandardError => e
  puts "not ok #{label}: #{e.class}: #{e.message.gsub(/\s+/, ' ')}"
  puts e.backtrace.first(4).map { |line| "# #{line}" }
  true
ensure
  $stdout.flush
end
puts "1..#{CHECKS.size}"
exit(failed.zero?)
