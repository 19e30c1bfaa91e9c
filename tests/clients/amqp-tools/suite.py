"""The command-line tools of rabbitmq-c (package amqp-tools): what a shell script sees of the broker."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from checks import PARTS, URI, check, eventually, name, restart_broker, run_all, same


def tool(command, *arguments, uri=URI, stdin=b""):
    """Exit code, output and complaint of one tool."""
    done = subprocess.run(["amqp-" + command, "--url=" + uri] + list(arguments), input=stdin, timeout=30,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout, done.stderr.decode()


def works(command, *arguments, stdin=b""):
    code, out, complaint = tool(command, *arguments, stdin=stdin)
    same((code, complaint), (0, ""))
    return out


def fails(text, command, *arguments, uri=URI):
    code, _, complaint = tool(command, *arguments, uri=uri)
    same((code != 0, text in complaint, complaint), (True, True, complaint))


def queue_of(suffix):
    queue = name(suffix)
    same(works("declare-queue", "-d", "-q", queue), queue.encode() + b"\n")
    return queue


def deleted_with(queue):
    """amqp-delete-queue prints how many messages went with the queue."""
    return int(works("delete-queue", "-q", queue))


@check
def wrong_password_is_refused():
    wrong = URI.replace(":%s@" % PARTS.password, ":wrong@")
    fails("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker "
          "logfile.", "declare-queue", "-q", name("never"), uri=wrong)


@check
def missing_vhost_is_refused():
    fails("530", "declare-queue", "-q", name("never"), uri=URI.rsplit("/", 1)[0] + "/interop-none")
    fails("vhost interop-none not found", "declare-queue", "-q", name("never"),
          uri=URI.rsplit("/", 1)[0] + "/interop-none")


@check
def publish_get_and_an_empty_queue():
    queue = queue_of("get")
    works("publish", "-r", queue, "-p", "-C", "text/plain", "-b", "hello")
    same(works("get", "-q", queue), b"hello")
    same(tool("get", "-q", queue)[:2], (2, b""))
    same(deleted_with(queue), 0)


@check
def lines_become_messages_and_a_consumer_counts_them():
    queue = queue_of("lines")
    works("publish", "-r", queue, "-l", "-H", "key: value", stdin=b"one\ntwo\nthree\n")
    same(works("consume", "-q", queue, "-c", "3", "-p", "1", "cat"), b"one\ntwo\nthree\n")
    same(tool("get", "-q", queue)[0], 2)
    same(deleted_with(queue), 0)


@check
def consumer_that_stops_leaves_the_rest():
    queue = queue_of("rest")
    works("publish", "-r", queue, "-l", stdin=b"1\n2\n3\n4\n5\n")
    same(works("consume", "-q", queue, "-c", "2", "-p", "1", "cat"), b"1\n2\n")
    # What was sent ahead returns once the broker has seen the connection end.
    left = []
    eventually(lambda: left.append(tool("get", "-q", queue)[1]) or b"".join(left), b"3\n4\n5\n")
    same(deleted_with(queue), 0)


@check
def unacknowledged_message_returns_when_the_command_fails():
    queue = queue_of("fails")
    works("publish", "-r", queue, "-b", "again")
    tool("consume", "-q", queue, "-c", "1", "false")
    eventually(lambda: tool("get", "-q", queue)[1], b"again")
    same(deleted_with(queue), 0)


@check
def consumer_binds_a_queue_of_its_own():
    """A consumer with its own exclusive queue on an exchange; the publisher repeats until it is heard."""
    consumer = subprocess.Popen(["amqp-consume", "--url=" + URI, "-e", "amq.topic", "-r", name("own") + ".#", "-x",
                                 "-c", "1", "cat"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        def heard():
            works("publish", "-e", "amq.topic", "-r", name("own") + ".a", "-b", "to the exchange")
            return consumer.poll()
        eventually(heard, 0)
        same(consumer.stdout.read(), b"to the exchange")
    finally:
        consumer.kill()
        consumer.wait()


@check
def large_body_from_standard_input():
    body = os.urandom(5 << 20)
    queue = queue_of("large")
    works("publish", "-r", queue, stdin=body)
    same(works("get", "-q", queue) == body, True)
    same(deleted_with(queue), 0)


@check
def errors_carry_the_brokers_text():
    queue = name("missing")
    fails("NOT_FOUND - no queue '%s' in vhost '/'" % queue, "get", "-q", queue)
    fails("ACCESS_REFUSED - queue name 'amq.interop' contains reserved prefix 'amq.*'", "declare-queue", "-q",
          "amq.interop")
    durable = queue_of("durable")
    fails("PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' in vhost '/': received 'false' but current "
          "is 'true'" % durable, "declare-queue", "-q", durable)
    works("publish", "-r", durable, "-b", "x")
    fails("PRECONDITION_FAILED - queue '%s' in vhost '/' not empty" % durable, "delete-queue", "-e", "-q", durable)
    same(deleted_with(durable), 1)


@check
def deleting_a_missing_queue_is_no_error():
    same(deleted_with(name("missing")), 0)


@check
def server_named_queue():
    queue = works("declare-queue", "-d", "-q", "").decode().strip()
    same(queue.startswith("amq.gen-"), True)
    same(deleted_with(queue), 0)


@check
def durable_queue_survives_a_kill():
    queue = queue_of("kept")
    restart_broker()
    works("publish", "-r", queue, "-b", "after")
    same(works("get", "-q", queue), b"after")
    same(deleted_with(queue), 0)


run_all()
