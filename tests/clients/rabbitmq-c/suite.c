/* rabbitmq-c: the synchronous C library, with field types and method frames as the caller writes them.
 * In: AMQP_URI and BROKER_RESTART_CMD. Out: one line for each check and the plan line. */

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

static char why[1024];
static bool skipped;

/* Ends a check with its reason, and tells the line. */
#define FAIL(...) return fail(__LINE__, __VA_ARGS__)
#define SAME_INT(got, wanted)                                                             \
  do {                                                                                    \
    long long got_ = (long long)(got), wanted_ = (long long)(wanted);                     \
    if (got_ != wanted_) FAIL("%s: got %lld, wanted %lld", #got, got_, wanted_);          \
  } while (0)
#define SAME_TEXT(got, wanted)                                                            \
  do {                                                                                    \
    const char *got_ = (got), *wanted_ = (wanted);                                        \
    if (strcmp(got_, wanted_) != 0) FAIL("%s: got '%s', wanted '%s'", #got, got_, wanted_); \
  } while (0)
#define TRY(call)                \
  do {                           \
    if (!(call)) return false;   \
  } while (0)
/* The last synchronous call must have succeeded. */
#define SUCCEEDED(link) TRY(succeeded(link, __LINE__))

static bool fail(int line, const char *format, ...) {
  va_list arguments;
  int length = snprintf(why, sizeof why, "line %d: ", line);
  va_start(arguments, format);
  vsnprintf(why + length, sizeof why - (size_t)length, format, arguments);
  va_end(arguments);
  return false;
}

/* The text of a byte string; the fourth call after this one overwrites it. */
static const char *text_of(amqp_bytes_t bytes) {
  static char texts[4][600];
  static int turn;
  char *text = texts[turn++ % 4];
  size_t length = bytes.len < 599 ? bytes.len : 599;
  memcpy(text, bytes.bytes, length);
  text[length] = 0;
  return text;
}

static const char *name(const char *suffix) {
  static char names[8][80];
  static int turn;
  char *made = names[turn++ % 8];
  snprintf(made, 80, "interop.%d.%s", (int)getpid(), suffix);
  return made;
}

static amqp_bytes_t bytes(const char *text) { return amqp_cstring_bytes(text); }

/* ---------------------------------------------------------------- connections */

static bool succeeded(amqp_connection_state_t link, int line) {
  amqp_rpc_reply_t reply = amqp_get_rpc_reply(link);
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return true;
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
    amqp_channel_close_t *close = reply.reply.decoded;
    return fail(line, "channel closed: %d %s", close->reply_code, text_of(close->reply_text));
  }
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
    amqp_connection_close_t *close = reply.reply.decoded;
    return fail(line, "connection closed: %d %s", close->reply_code, text_of(close->reply_text));
  }
  return fail(line, "%s", amqp_error_string2(reply.library_error));
}

static amqp_rpc_reply_t login(amqp_connection_state_t *link, const char *password, const char *vhost, int heartbeat) {
  struct amqp_connection_info info;
  static char uri[300];
  amqp_rpc_reply_t reply = {.reply_type = AMQP_RESPONSE_LIBRARY_EXCEPTION};
  snprintf(uri, sizeof uri, "%s", getenv("AMQP_URI"));
  if (amqp_parse_url(uri, &info) != AMQP_STATUS_OK) return reply;
  *link = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(*link);
  reply.library_error = amqp_socket_open(socket, info.host, info.port);
  if (reply.library_error != AMQP_STATUS_OK) return reply;
  amqp_table_entry_t capability = {.key = bytes("authentication_failure_close"),
                                   .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
  amqp_table_entry_t cancel = {.key = bytes("consumer_cancel_notify"),
                               .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
  amqp_table_entry_t flags[] = {capability, cancel};
  amqp_table_entry_t property = {.key = bytes("capabilities"),
                                 .value = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {2, flags}}};
  amqp_table_t properties = {1, &property};
  return amqp_login_with_properties(*link, vhost ? vhost : info.vhost, 0, 131072, heartbeat, &properties,
                                    AMQP_SASL_METHOD_PLAIN, info.user, password ? password : info.password);
}

static bool connect_to_broker(amqp_connection_state_t *link) {
  amqp_rpc_reply_t reply = login(link, NULL, NULL, 0);
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) FAIL("no login: %s", amqp_error_string2(reply.library_error));
  amqp_channel_open(*link, 1);
  SUCCEEDED(*link);
  return true;
}

static void disconnect(amqp_connection_state_t link) {
  amqp_connection_close(link, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(link);
}

/* The last reply must be the broker's exception with this code and full text. */
static bool refused(amqp_rpc_reply_t reply, amqp_method_number_t kind, int code, const char *wanted, int line) {
  if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) return fail(line, "no exception, wanted %d %s", code, wanted);
  if (reply.reply.id != kind) return fail(line, "exception of method %#x, wanted %#x", reply.reply.id, kind);
  int got;
  const char *text;
  if (kind == AMQP_CHANNEL_CLOSE_METHOD) {
    amqp_channel_close_t *close = reply.reply.decoded;
    got = close->reply_code;
    text = text_of(close->reply_text);
  } else {
    amqp_connection_close_t *close = reply.reply.decoded;
    got = close->reply_code;
    text = text_of(close->reply_text);
  }
  if (got != code || strcmp(text, wanted) != 0) return fail(line, "got %d %s, wanted %d %s", got, text, code, wanted);
  return true;
}
#define REFUSED(reply, kind, code, text) TRY(refused(reply, kind, code, text, __LINE__))

/* ---------------------------------------------------------------- queues and messages */

static bool declare(amqp_connection_state_t link, const char *queue, amqp_table_t arguments) {
  amqp_queue_declare(link, 1, bytes(queue), 0, 1, 0, 0, arguments);
  SUCCEEDED(link);
  return true;
}

static bool publish(amqp_connection_state_t link, const char *exchange, const char *key, bool mandatory,
                    const amqp_basic_properties_t *properties, const char *body) {
  int status = amqp_basic_publish(link, 1, bytes(exchange), bytes(key), mandatory, 0, properties, bytes(body));
  SAME_INT(status, AMQP_STATUS_OK);
  return true;
}

/* Reads the next frame's method on channel 1; waits at most five seconds. */
static bool next_method(amqp_connection_state_t link, amqp_method_t *method) {
  amqp_frame_t frame;
  struct timeval limit = {5, 0};
  int status = amqp_simple_wait_frame_noblock(link, &frame, &limit);
  if (status != AMQP_STATUS_OK) FAIL("no frame: %s", amqp_error_string2(status));
  SAME_INT(frame.frame_type, AMQP_FRAME_METHOD);
  *method = frame.payload.method;
  return true;
}

static bool next_delivery(amqp_connection_state_t link, amqp_envelope_t *envelope) {
  struct timeval limit = {5, 0};
  amqp_maybe_release_buffers(link);
  amqp_rpc_reply_t reply = amqp_consume_message(link, envelope, &limit, 0);
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) FAIL("no delivery: %s", amqp_error_string2(reply.library_error));
  return true;
}

static bool no_delivery(amqp_connection_state_t link) {
  amqp_envelope_t envelope;
  struct timeval limit = {0, 300000};
  amqp_rpc_reply_t reply = amqp_consume_message(link, &envelope, &limit, 0);
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) FAIL("a delivery too many");
  SAME_INT(reply.library_error, AMQP_STATUS_TIMEOUT);
  return true;
}

/* Gets the next message, waiting for it; `message` is the caller's to destroy. */
static bool get(amqp_connection_state_t link, const char *queue, amqp_message_t *message) {
  for (int turn = 0; turn < 250; turn++) {
    amqp_rpc_reply_t reply = amqp_basic_get(link, 1, bytes(queue), 1);
    SAME_INT(reply.reply_type, AMQP_RESPONSE_NORMAL);
    if (reply.reply.id == AMQP_BASIC_GET_OK_METHOD) {
      reply = amqp_read_message(link, 1, message, 0);
      SAME_INT(reply.reply_type, AMQP_RESPONSE_NORMAL);
      return true;
    }
    usleep(20000);
  }
  FAIL("no message in %s", queue);
}

static bool get_body(amqp_connection_state_t link, const char *queue, const char *wanted) {
  amqp_message_t message;
  TRY(get(link, queue, &message));
  const char *body = text_of(message.body);
  amqp_destroy_message(&message);
  SAME_TEXT(body, wanted);
  return true;
}

static bool empty(amqp_connection_state_t link, const char *queue) {
  amqp_rpc_reply_t reply = amqp_basic_get(link, 1, bytes(queue), 1);
  SAME_INT(reply.reply.id, AMQP_BASIC_GET_EMPTY_METHOD);
  return true;
}

static bool delete_queue(amqp_connection_state_t link, const char *queue) {
  amqp_queue_delete(link, 1, bytes(queue), 0, 0);
  SUCCEEDED(link);
  return true;
}

/* ---------------------------------------------------------------- checks */

static bool wrong_password_and_vhost(void) {
  amqp_connection_state_t link;
  REFUSED(login(&link, "wrong", NULL, 0), AMQP_CONNECTION_CLOSE_METHOD, 403,
          "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.");
  amqp_destroy_connection(link);
  REFUSED(login(&link, NULL, "interop-none", 0), AMQP_CONNECTION_CLOSE_METHOD, 530,
          "NOT_ALLOWED - vhost interop-none not found");
  amqp_destroy_connection(link);
  return true;
}

static bool consumes_with_prefetch(void) {
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  const char *queue = name("consume");
  TRY(declare(link, queue, amqp_empty_table));
  for (int number = 0; number < 4; number++) {
    char body[] = {(char)('0' + number), 0};
    TRY(publish(link, "", queue, false, NULL, body));
  }
  amqp_basic_qos(link, 1, 0, 2, 0);
  SUCCEEDED(link);
  amqp_basic_consume_ok_t *consumer =
      amqp_basic_consume(link, 1, bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
  SUCCEEDED(link);
  SAME_INT(strncmp(text_of(consumer->consumer_tag), "amq.ctag-", 9), 0);
  amqp_bytes_t tag = amqp_bytes_malloc_dup(consumer->consumer_tag);
  const char *bodies[] = {"0", "1", "2", "3"};
  for (int number = 0; number < 4; number++) {
    amqp_envelope_t envelope;
    TRY(next_delivery(link, &envelope));
    SAME_TEXT(text_of(envelope.message.body), bodies[number]);
    SAME_INT(envelope.delivery_tag, number + 1);
    SAME_INT(envelope.redelivered, 0);
    SAME_TEXT(text_of(envelope.routing_key), queue);
    amqp_destroy_envelope(&envelope);
    if (number == 1) {
      TRY(no_delivery(link));
      SAME_INT(amqp_basic_ack(link, 1, 2, 1), 0);
    }
  }
  SAME_INT(amqp_basic_reject(link, 1, 4, 0), 0);
  SAME_INT(amqp_basic_nack(link, 1, 3, 0, 1), 0);
  amqp_envelope_t again;
  TRY(next_delivery(link, &again));
  SAME_TEXT(text_of(again.message.body), "2");
  SAME_INT(again.redelivered, 1);
  SAME_INT(amqp_basic_ack(link, 1, again.delivery_tag, 0), 0);
  amqp_destroy_envelope(&again);
  amqp_basic_cancel(link, 1, tag);
  SUCCEEDED(link);
  amqp_bytes_free(tag);
  amqp_queue_declare_ok_t *state = amqp_queue_declare(link, 1, bytes(queue), 1, 1, 0, 0, amqp_empty_table);
  SUCCEEDED(link);
  SAME_INT(state->message_count, 0);
  SAME_INT(state->consumer_count, 0);
  TRY(delete_queue(link, queue));
  disconnect(link);
  return true;
}

static bool confirms_and_returns(void) {
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  amqp_confirm_select(link, 1);
  SUCCEEDED(link);
  const char *queue = name("confirm"), *nowhere = name("nowhere");
  amqp_table_entry_t limits[] = {
      {.key = bytes("x-max-length"), .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = 1}},
      {.key = bytes("x-overflow"), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes("reject-publish")}}};
  TRY(declare(link, queue, (amqp_table_t){2, limits}));
  amqp_basic_properties_t persistent = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
  amqp_method_t method;
  TRY(publish(link, "", queue, true, &persistent, "fits"));
  TRY(next_method(link, &method));
  SAME_INT(method.id, AMQP_BASIC_ACK_METHOD);
  SAME_INT(((amqp_basic_ack_t *)method.decoded)->delivery_tag, 1);

  TRY(publish(link, "", nowhere, true, &persistent, "lost"));
  TRY(next_method(link, &method));
  SAME_INT(method.id, AMQP_BASIC_RETURN_METHOD);
  amqp_basic_return_t *returned = method.decoded;
  SAME_INT(returned->reply_code, 312);
  SAME_TEXT(text_of(returned->reply_text), "NO_ROUTE");
  SAME_TEXT(text_of(returned->routing_key), nowhere);
  amqp_message_t message;
  SAME_INT(amqp_read_message(link, 1, &message, 0).reply_type, AMQP_RESPONSE_NORMAL);
  SAME_TEXT(text_of(message.body), "lost");
  amqp_destroy_message(&message);
  TRY(next_method(link, &method));
  SAME_INT(method.id, AMQP_BASIC_ACK_METHOD);
  SAME_INT(((amqp_basic_ack_t *)method.decoded)->delivery_tag, 2);

  TRY(publish(link, "", queue, true, &persistent, "too much"));
  TRY(next_method(link, &method));
  SAME_INT(method.id, AMQP_BASIC_NACK_METHOD);
  SAME_INT(((amqp_basic_nack_t *)method.decoded)->delivery_tag, 3);
  TRY(get_body(link, queue, "fits"));
  TRY(empty(link, queue));
  TRY(delete_queue(link, queue));
  disconnect(link);
  return true;
}

static bool transaction(void) {
  amqp_connection_state_t link, watcher;
  TRY(connect_to_broker(&link));
  TRY(connect_to_broker(&watcher));
  const char *queue = name("tx");
  TRY(declare(link, queue, amqp_empty_table));
  amqp_tx_select(link, 1);
  SUCCEEDED(link);
  TRY(publish(link, "", queue, false, NULL, "dropped"));
  amqp_tx_rollback(link, 1);
  SUCCEEDED(link);
  TRY(publish(link, "", queue, false, NULL, "kept"));
  TRY(empty(watcher, queue));
  amqp_tx_commit(link, 1);
  SUCCEEDED(link);
  TRY(get_body(watcher, queue, "kept"));
  TRY(empty(watcher, queue));
  TRY(delete_queue(watcher, queue));
  disconnect(link);
  disconnect(watcher);
  return true;
}

static bool rpc(const char *reply_queue) {
  amqp_connection_state_t client, server;
  TRY(connect_to_broker(&client));
  TRY(connect_to_broker(&server));
  const char *requests = name("rpc");
  char replies[200];
  snprintf(replies, sizeof replies, "%s", reply_queue);
  TRY(declare(server, requests, amqp_empty_table));
  if (reply_queue[0] == 0) {
    amqp_queue_declare_ok_t *own = amqp_queue_declare(client, 1, amqp_empty_bytes, 0, 0, 1, 0, amqp_empty_table);
    SUCCEEDED(client);
    SAME_INT(strncmp(text_of(own->queue), "amq.gen-", 8), 0);
    snprintf(replies, sizeof replies, "%s", text_of(own->queue));
  }
  amqp_basic_consume(client, 1, bytes(replies), amqp_empty_bytes, 0, 1, 0, amqp_empty_table);
  SUCCEEDED(client);
  amqp_basic_properties_t ask = {._flags = AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG,
                                 .reply_to = bytes(replies),
                                 .correlation_id = bytes("11")};
  TRY(publish(client, "", requests, false, &ask, "ping"));
  amqp_message_t request;
  TRY(get(server, requests, &request));
  char address[300];
  snprintf(address, sizeof address, "%s", text_of(request.properties.reply_to));
  SAME_INT(strncmp(address, replies, strlen(replies)), 0);
  SAME_INT(reply_queue[0] != 0, strlen(address) > strlen(replies));
  amqp_basic_properties_t answer = {._flags = AMQP_BASIC_CORRELATION_ID_FLAG,
                                    .correlation_id = request.properties.correlation_id};
  TRY(publish(server, "", address, false, &answer, "pong"));
  amqp_destroy_message(&request);
  amqp_envelope_t envelope;
  TRY(next_delivery(client, &envelope));
  SAME_TEXT(text_of(envelope.message.body), "pong");
  SAME_TEXT(text_of(envelope.message.properties.correlation_id), "11");
  amqp_destroy_envelope(&envelope);
  TRY(delete_queue(server, requests));
  disconnect(client);
  disconnect(server);
  return true;
}

static bool rpc_by_direct_reply_to(void) { return rpc("amq.rabbitmq.reply-to"); }

static bool rpc_by_a_reply_queue(void) { return rpc(""); }

static bool exchanges(void) {
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  const char *kinds[] = {"topic", "fanout", "headers"};
  const char *queues[3];
  const char *named[3];
  amqp_table_entry_t wanted[] = {
      {.key = bytes("x-match"), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes("all")}},
      {.key = bytes("n"), .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = 1}}};
  for (int kind = 0; kind < 3; kind++) {
    named[kind] = name(kinds[kind]);
    queues[kind] = named[kind];
    amqp_exchange_declare(link, 1, bytes(named[kind]), bytes(kinds[kind]), 0, 1, 0, 0, amqp_empty_table);
    SUCCEEDED(link);
    TRY(declare(link, queues[kind], amqp_empty_table));
    amqp_queue_bind(link, 1, bytes(queues[kind]), bytes(named[kind]), bytes(kind == 0 ? "a.*" : ""),
                    kind == 2 ? (amqp_table_t){2, wanted} : amqp_empty_table);
    SUCCEEDED(link);
    if (kind > 0) {
      amqp_exchange_bind(link, 1, bytes(named[kind]), bytes(named[kind - 1]), bytes("#"), amqp_empty_table);
      SUCCEEDED(link);
    }
  }
  const char *keys[] = {"a.b", "a", "a.c"};
  for (int number = 0; number < 3; number++) {
    amqp_table_entry_t sent = {.key = bytes("n"),
                               .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = number == 2 ? 2 : 1}};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = {1, &sent}};
    TRY(publish(link, named[0], keys[number], false, &properties, keys[number]));
  }
  TRY(get_body(link, queues[0], "a.b"));
  TRY(get_body(link, queues[0], "a.c"));
  for (int number = 0; number < 3; number++) TRY(get_body(link, queues[1], keys[number]));
  TRY(get_body(link, queues[2], "a.b"));
  TRY(get_body(link, queues[2], "a"));
  for (int kind = 0; kind < 3; kind++) {
    TRY(empty(link, queues[kind]));
    TRY(delete_queue(link, queues[kind]));
    amqp_exchange_delete(link, 1, bytes(named[kind]), 0);
    SUCCEEDED(link);
  }
  disconnect(link);
  return true;
}

/* Declares passively or not on a channel of its own, which the broker must close; then opens the next. */
static bool declare_refused(amqp_connection_state_t link, int channel, const char *queue, bool passive, bool durable,
                            int code, const char *format, int line) {
  char wanted[600];
  snprintf(wanted, sizeof wanted, format, queue);
  amqp_channel_open(link, (amqp_channel_t)channel);
  SUCCEEDED(link);
  amqp_queue_declare(link, (amqp_channel_t)channel, bytes(queue), passive, durable, 0, 0, amqp_empty_table);
  if (!refused(amqp_get_rpc_reply(link), AMQP_CHANNEL_CLOSE_METHOD, code, wanted, line)) return false;
  amqp_channel_close_ok_t ok = {0};
  SAME_INT(amqp_send_method(link, (amqp_channel_t)channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok), AMQP_STATUS_OK);
  amqp_maybe_release_buffers(link);
  return true;
}

static bool errors(void) {
  amqp_connection_state_t link, owner;
  TRY(connect_to_broker(&link));
  TRY(connect_to_broker(&owner));
  const char *queue = name("errors"), *locked = name("locked");
  TRY(declare(link, queue, amqp_empty_table));
  amqp_queue_declare(owner, 1, bytes(locked), 0, 0, 1, 0, amqp_empty_table);
  SUCCEEDED(owner);
  TRY(declare_refused(link, 2, name("missing"), true, true, 404, "NOT_FOUND - no queue '%s' in vhost '/'", __LINE__));
  TRY(declare_refused(link, 3, queue, false, false, 406,
                      "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' in vhost '/': received 'false' "
                      "but current is 'true'",
                      __LINE__));
  TRY(declare_refused(link, 4, locked, true, false, 405,
                      "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s' in vhost '/'. It could be "
                      "originally declared on another connection or the exclusive property value does not match that "
                      "of the original declaration.",
                      __LINE__));
  TRY(declare_refused(link, 5, "amq.interop", false, true, 403,
                      "ACCESS_REFUSED - queue name '%s' contains reserved prefix 'amq.*'", __LINE__));
  /* The number of a channel that the broker closed is free again. */
  TRY(declare_refused(link, 2, name("missing"), true, true, 404, "NOT_FOUND - no queue '%s' in vhost '/'", __LINE__));
  TRY(delete_queue(link, queue));
  disconnect(link);
  disconnect(owner);
  return true;
}

static bool immediate(void) {
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  SAME_INT(amqp_basic_publish(link, 1, amqp_empty_bytes, bytes("x"), 0, 1, NULL, bytes("x")), AMQP_STATUS_OK);
  amqp_method_t method;
  TRY(next_method(link, &method));
  SAME_INT(method.id, AMQP_CONNECTION_CLOSE_METHOD);
  amqp_connection_close_t *close = method.decoded;
  SAME_INT(close->reply_code, 540);
  SAME_TEXT(text_of(close->reply_text), "NOT_IMPLEMENTED - immediate=true");
  SAME_INT(close->class_id, 60);
  SAME_INT(close->method_id, 40);
  amqp_destroy_connection(link);
  return true;
}

static bool consumer_cancelled(void) {
  amqp_connection_state_t link, other;
  TRY(connect_to_broker(&link));
  TRY(connect_to_broker(&other));
  const char *queue = name("cancelled");
  TRY(declare(link, queue, amqp_empty_table));
  amqp_basic_consume(link, 1, bytes(queue), bytes("told"), 0, 0, 0, amqp_empty_table);
  SUCCEEDED(link);
  TRY(delete_queue(other, queue));
  amqp_method_t method;
  TRY(next_method(link, &method));
  SAME_INT(method.id, AMQP_BASIC_CANCEL_METHOD);
  amqp_basic_cancel_t *cancel = method.decoded;
  SAME_TEXT(text_of(cancel->consumer_tag), "told");
  SAME_INT(cancel->nowait, 1);
  amqp_queue_declare(link, 1, amqp_empty_bytes, 0, 0, 1, 0, amqp_empty_table);
  SUCCEEDED(link);
  disconnect(link);
  disconnect(other);
  return true;
}

static amqp_field_value_t *entry(amqp_table_t *table, const char *key) {
  for (int index = 0; index < table->num_entries; index++) {
    if (strcmp(text_of(table->entries[index].key), key) == 0) return &table->entries[index].value;
  }
  return NULL;
}

static bool dead_letter(void) {
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  const char *queue = name("ttl"), *dead = name("dead");
  amqp_table_entry_t arguments[] = {
      {.key = bytes("x-dead-letter-exchange"), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes("")}},
      {.key = bytes("x-dead-letter-routing-key"), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes(dead)}},
      {.key = bytes("x-message-ttl"), .value = {.kind = AMQP_FIELD_KIND_U32, .value.u32 = 100}}};
  TRY(declare(link, dead, amqp_empty_table));
  TRY(declare(link, queue, (amqp_table_t){3, arguments}));
  TRY(publish(link, "", queue, false, NULL, "x"));
  amqp_message_t message;
  TRY(get(link, dead, &message));
  amqp_field_value_t *deaths = entry(&message.properties.headers, "x-death");
  if (deaths == NULL) FAIL("no x-death");
  SAME_INT(deaths->kind, AMQP_FIELD_KIND_ARRAY);
  SAME_INT(deaths->value.array.num_entries, 1);
  SAME_INT(deaths->value.array.entries[0].kind, AMQP_FIELD_KIND_TABLE);
  amqp_table_t *death = &deaths->value.array.entries[0].value.table;
  struct {
    const char *key, *text;
    int kind;
  } wanted[] = {{"reason", "expired", AMQP_FIELD_KIND_UTF8},
                {"queue", queue, AMQP_FIELD_KIND_UTF8},
                {"exchange", "", AMQP_FIELD_KIND_UTF8},
                {"count", NULL, AMQP_FIELD_KIND_I64},
                {"time", NULL, AMQP_FIELD_KIND_TIMESTAMP},
                {"routing-keys", NULL, AMQP_FIELD_KIND_ARRAY}};
  for (size_t index = 0; index < sizeof wanted / sizeof *wanted; index++) {
    amqp_field_value_t *value = entry(death, wanted[index].key);
    if (value == NULL) FAIL("no %s in x-death", wanted[index].key);
    SAME_INT(value->kind, wanted[index].kind);
    if (wanted[index].text != NULL) SAME_TEXT(text_of(value->value.bytes), wanted[index].text);
  }
  SAME_INT(entry(death, "count")->value.i64, 1);
  long long age = (long long)time(NULL) - (long long)entry(death, "time")->value.u64;
  SAME_INT(age > -5 && age < 30, 1);
  SAME_INT(entry(death, "routing-keys")->value.array.num_entries, 1);
  SAME_TEXT(text_of(entry(death, "routing-keys")->value.array.entries[0].value.bytes), queue);
  amqp_destroy_message(&message);
  TRY(delete_queue(link, queue));
  TRY(delete_queue(link, dead));
  disconnect(link);
  return true;
}

static bool priority(void) {
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  const char *queue = name("priority");
  amqp_table_entry_t most = {.key = bytes("x-max-priority"), .value = {.kind = AMQP_FIELD_KIND_U8, .value.u8 = 5}};
  TRY(declare(link, queue, (amqp_table_t){1, &most}));
  amqp_confirm_select(link, 1);
  SUCCEEDED(link);
  const char *bodies[] = {"0", "5", "3"};
  for (int number = 0; number < 3; number++) {
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_PRIORITY_FLAG,
                                          .priority = (uint8_t)atoi(bodies[number])};
    amqp_method_t method;
    TRY(publish(link, "", queue, false, &properties, bodies[number]));
    TRY(next_method(link, &method));
    SAME_INT(method.id, AMQP_BASIC_ACK_METHOD);
  }
  TRY(get_body(link, queue, "5"));
  TRY(get_body(link, queue, "3"));
  TRY(get_body(link, queue, "0"));
  TRY(delete_queue(link, queue));
  disconnect(link);
  return true;
}

static bool table_types(void) {
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  const char *queue = name("table");
  TRY(declare(link, queue, amqp_empty_table));
  amqp_field_value_t items[] = {{.kind = AMQP_FIELD_KIND_I32, .value.i32 = 1}, {.kind = AMQP_FIELD_KIND_VOID}};
  amqp_table_entry_t inner = {.key = bytes("deep"), .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
  amqp_bytes_t raw = {.len = 3, .bytes = "\x00\xff\x01"};
  amqp_table_entry_t sent[] = {
      {.key = bytes("t"), .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}},
      {.key = bytes("b"), .value = {.kind = AMQP_FIELD_KIND_I8, .value.i8 = -5}},
      {.key = bytes("B"), .value = {.kind = AMQP_FIELD_KIND_U8, .value.u8 = 250}},
      {.key = bytes("s"), .value = {.kind = AMQP_FIELD_KIND_I16, .value.i16 = -300}},
      {.key = bytes("u"), .value = {.kind = AMQP_FIELD_KIND_U16, .value.u16 = 60000}},
      {.key = bytes("I"), .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = -70000}},
      {.key = bytes("i"), .value = {.kind = AMQP_FIELD_KIND_U32, .value.u32 = 4000000000u}},
      {.key = bytes("l"), .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = -(1LL << 40)}},
      {.key = bytes("f"), .value = {.kind = AMQP_FIELD_KIND_F32, .value.f32 = 1.5f}},
      {.key = bytes("d"), .value = {.kind = AMQP_FIELD_KIND_F64, .value.f64 = -2.25}},
      {.key = bytes("D"), .value = {.kind = AMQP_FIELD_KIND_DECIMAL, .value.decimal = {2, 314}}},
      {.key = bytes("S"), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes("text")}},
      {.key = bytes("A"), .value = {.kind = AMQP_FIELD_KIND_ARRAY, .value.array = {2, items}}},
      {.key = bytes("T"), .value = {.kind = AMQP_FIELD_KIND_TIMESTAMP, .value.u64 = 1700000000}},
      {.key = bytes("F"), .value = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {1, &inner}}},
      {.key = bytes("V"), .value = {.kind = AMQP_FIELD_KIND_VOID}},
      {.key = bytes("x"), .value = {.kind = AMQP_FIELD_KIND_BYTES, .value.bytes = raw}}};
  int count = sizeof sent / sizeof *sent;
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = {count, sent}};
  TRY(publish(link, "", queue, false, &properties, ""));
  amqp_message_t message;
  TRY(get(link, queue, &message));
  SAME_INT(message.properties.headers.num_entries, count);
  /* Encoded again, each value has the same bytes as before. */
  for (int index = 0; index < count; index++) {
    const char *key = sent[index].key.bytes;
    amqp_field_value_t *back = entry(&message.properties.headers, key);
    if (back == NULL) FAIL("no %s", key);
    amqp_table_entry_t one = sent[index], two = {.key = one.key, .value = *back};
    amqp_table_t first = {1, &one}, second = {1, &two};
    char encoded[2][100];
    size_t length[2] = {0, 0};
    amqp_bytes_t buffers[] = {{.len = 100, .bytes = encoded[0]}, {.len = 100, .bytes = encoded[1]}};
    SAME_INT(amqp_encode_table(buffers[0], &first, &length[0]), AMQP_STATUS_OK);
    SAME_INT(amqp_encode_table(buffers[1], &second, &length[1]), AMQP_STATUS_OK);
    if (length[0] != length[1] || memcmp(encoded[0], encoded[1], length[0]) != 0) {
      FAIL("type %s came back as another value", key);
    }
  }
  amqp_destroy_message(&message);
  TRY(delete_queue(link, queue));
  disconnect(link);
  return true;
}

static bool large_body(void) {
  static char body[5 << 20];
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  const char *queue = name("large");
  TRY(declare(link, queue, amqp_empty_table));
  for (size_t index = 0; index < sizeof body; index++) body[index] = (char)(index * 2654435761u >> 24);
  amqp_bytes_t sent = {.len = sizeof body, .bytes = body};
  SAME_INT(amqp_basic_publish(link, 1, amqp_empty_bytes, bytes(queue), 0, 0, NULL, sent), AMQP_STATUS_OK);
  amqp_message_t message;
  TRY(get(link, queue, &message));
  SAME_INT(message.body.len, sizeof body);
  SAME_INT(memcmp(message.body.bytes, body, sizeof body), 0);
  amqp_destroy_message(&message);
  TRY(delete_queue(link, queue));
  disconnect(link);
  return true;
}

/* rabbitmq-c answers and counts heartbeats only inside its own calls, so it waits for deliveries that do not come. */
static bool heartbeats(void) {
  amqp_connection_state_t link;
  SAME_INT(login(&link, NULL, NULL, 1).reply_type, AMQP_RESPONSE_NORMAL);
  SAME_INT(amqp_get_heartbeat(link), 1);
  amqp_channel_open(link, 1);
  SUCCEEDED(link);
  amqp_frame_t frame;
  struct timeval limit = {5, 0};
  SAME_INT(amqp_simple_wait_frame_noblock(link, &frame, &limit), AMQP_STATUS_TIMEOUT);
  amqp_queue_declare(link, 1, amqp_empty_bytes, 0, 0, 1, 0, amqp_empty_table);
  SUCCEEDED(link);
  disconnect(link);
  return true;
}

static bool survives_a_kill(void) {
  const char *command = getenv("BROKER_RESTART_CMD");
  if (command == NULL) {
    skipped = true;
    FAIL("no BROKER_RESTART_CMD, the broker is not ours to kill");
  }
  amqp_connection_state_t link;
  TRY(connect_to_broker(&link));
  const char *queue = name("kept");
  TRY(declare(link, queue, amqp_empty_table));
  amqp_exchange_declare(link, 1, bytes(queue), bytes("topic"), 0, 1, 0, 0, amqp_empty_table);
  SUCCEEDED(link);
  amqp_queue_bind(link, 1, bytes(queue), bytes(queue), bytes("k.#"), amqp_empty_table);
  SUCCEEDED(link);
  SAME_INT(system(command), 0);
  amqp_queue_declare(link, 1, bytes(queue), 1, 1, 0, 0, amqp_empty_table);
  SAME_INT(amqp_get_rpc_reply(link).reply_type, AMQP_RESPONSE_LIBRARY_EXCEPTION);
  amqp_destroy_connection(link);
  TRY(connect_to_broker(&link));
  TRY(declare(link, queue, amqp_empty_table));
  TRY(publish(link, queue, "k.1", false, NULL, "after"));
  TRY(get_body(link, queue, "after"));
  amqp_exchange_delete(link, 1, bytes(queue), 0);
  SUCCEEDED(link);
  TRY(delete_queue(link, queue));
  disconnect(link);
  return true;
}

int main(void) {
  struct {
    const char *label;
    bool (*run)(void);
  } checks[] = {
      {"wrong_password_and_missing_vhost_are_refused", wrong_password_and_vhost},
      {"consumes_with_prefetch_acknowledges_and_rejects", consumes_with_prefetch},
      {"confirms_return_before_the_ack_and_nack", confirms_and_returns},
      {"transaction_commits_and_rolls_back", transaction},
      {"rpc_by_direct_reply_to", rpc_by_direct_reply_to},
      {"rpc_by_a_reply_queue", rpc_by_a_reply_queue},
      {"exchanges_of_all_kinds_and_bindings_between_them", exchanges},
      {"errors_have_their_codes_and_texts", errors},
      {"immediate_is_540", immediate},
      {"consumer_is_told_when_its_queue_is_deleted", consumer_cancelled},
      {"ttl_dead_letters_with_x_death", dead_letter},
      {"priority_queue_serves_the_highest_first", priority},
      {"all_table_types_come_back", table_types},
      {"large_body_in_many_frames", large_body},
      {"idle_connection_lives_on_heartbeats", heartbeats},
      {"durable_definitions_survive_a_kill", survives_a_kill},
  };
  int count = sizeof checks / sizeof *checks, failed = 0;
  for (int index = 0; index < count; index++) {
    skipped = false;
    if (checks[index].run()) {
      printf("ok %s\n", checks[index].label);
    } else if (skipped) {
      printf("skip %s: %s\n", checks[index].label, why);
    } else {
      failed++;
      printf("not ok %s: %s\n", checks[index].label, why);
    }
    fflush(stdout);
  }
  printf("1..%d\n", count);
  return failed > 0;
}
