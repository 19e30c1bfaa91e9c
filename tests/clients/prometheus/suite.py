"""Prometheus' own parser reads what the broker says of itself, and finds what RabbitMQ's dashboards ask for."""

import os
import sys
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import pika
from prometheus_client.parser import text_string_to_metric_families
from checks import Skip, URI, check, eventually, name, run_all, same

METRICS_URI = os.environ.get("HAREMQ_METRICS_URI")

# What the queries of RabbitMQ-Overview, as of RabbitMQ 4.3, read.
OVERVIEW = """
identity_info build_info erlang_uptime_seconds queues channels connections queue_messages_ready queue_messages_unacked
connections_opened_total connections_closed_total channels_opened_total channels_closed_total queues_declared_total
queues_created_total queues_deleted_total process_open_fds process_max_fds process_resident_memory_bytes
resident_memory_limit_bytes disk_space_available_bytes disk_space_available_limit_bytes global_publishers
global_consumers global_messages_received_total global_messages_received_confirm_total global_messages_routed_total
global_messages_confirmed_total global_messages_unroutable_dropped_total global_messages_unroutable_returned_total
global_messages_delivered_total global_messages_delivered_consume_auto_ack_total
global_messages_delivered_consume_manual_ack_total global_messages_delivered_get_auto_ack_total
global_messages_delivered_get_manual_ack_total global_messages_get_empty_total global_messages_redelivered_total
global_messages_acknowledged_total message_size_bytes_bucket message_size_bytes_sum message_size_bytes_count
""".split()


def scrape(path="/metrics"):
    if not METRICS_URI:
        raise Skip("no HAREMQ_METRICS_URI, so it is not known where metrics are served")
    with urllib.request.urlopen(METRICS_URI + path, timeout=10) as answer:
        same(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        text = answer.read().decode()
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    same(sorted(names), sorted(set(names)))
    return [sample for family in families for sample in family.samples]


def values(samples, metric, **labels):
    """The values of a metric's samples that have these labels."""
    return [sample.value for sample in samples if sample.name == "rabbitmq_" + metric
            and all(sample.labels.get(label) == wanted for label, wanted in labels.items())]


def total(metric, **labels):
    return sum(values(scrape(), metric, **labels))


@check
def the_overview_dashboard_finds_every_metric():
    found = {sample.name for sample in scrape()}
    same([metric for metric in OVERVIEW if "rabbitmq_" + metric not in found], [])


@check
def there_is_one_identity_to_join_on():
    for path, endpoint in (("/metrics", "aggregated"), ("/metrics/per-object", "per-object"),
                           ("/metrics/detailed", "detailed"), ("/metrics/memory-breakdown", "memory-breakdown")):
        identities = [sample.labels for sample in scrape(path) if sample.name == "rabbitmq_identity_info"]
        same(len(identities), 1)
        same(identities[0]["rabbitmq_endpoint"], endpoint)
        same(sorted(identities[0]), ["rabbitmq_cluster", "rabbitmq_cluster_permanent_id", "rabbitmq_endpoint",
                                     "rabbitmq_node"])


@check
def messages_are_counted_by_protocol_queue_type_and_size():
    queue = name("prometheus")
    before = scrape()
    connection = pika.BlockingConnection(pika.URLParameters(URI))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    for _ in range(3):
        channel.basic_publish("", queue, b"x" * 1001)
    tag = channel.basic_get(queue)[0].delivery_tag
    channel.basic_ack(tag)
    quorum = {"protocol": "amqp091", "queue_type": "rabbit_quorum_queue"}

    def grown(metric, **labels):
        return total(metric, **labels) - sum(values(before, metric, **labels))

    eventually(lambda: grown("global_messages_acknowledged_total", **quorum), 1)
    same(grown("global_messages_received_total", protocol="amqp091"), 3)
    same(grown("global_messages_confirmed_total", protocol="amqp091"), 3)
    same(grown("global_messages_delivered_get_manual_ack_total", **quorum), 1)
    same(grown("message_size_bytes_bucket", le="1000.0"), 0)
    same(grown("message_size_bytes_bucket", le="10000.0"), 3)
    same(grown("message_size_bytes_sum"), 3003)
    same(total("global_publishers"), 1)
    detailed = scrape("/metrics/detailed?family=queue_coarse_metrics&vhost=%2F&queue=" + queue.replace(".", "%5C."))
    ready = [sample for sample in detailed if sample.name == "rabbitmq_detailed_queue_messages_ready"]
    same([(sample.labels, sample.value) for sample in ready], [({"vhost": "/", "queue": queue}, 2.0)])
    channel.queue_delete(queue)
    connection.close()
    eventually(lambda: total("global_publishers"), 0)


@check
def counters_do_not_fall_when_objects_go():
    def counters():
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in scrape()
                if sample.name.endswith("_total")}

    connection = pika.BlockingConnection(pika.URLParameters(URI))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"m")
    channel.basic_get(queue, auto_ack=True)
    eventually(lambda: total("channels"), 1)
    during = counters()
    connection.close()
    eventually(lambda: total("connections"), 0)
    after = counters()
    same([key for key, value in during.items() if after.get(key, 0) < value], [])


@check
def sums_do_not_grow_with_the_number_of_queues():
    connection = pika.BlockingConnection(pika.URLParameters(URI))
    channel = connection.channel()
    series = len(scrape())
    for _ in range(50):
        channel.queue_declare("", exclusive=True)
    same(len(scrape()), series)
    assert len(scrape("/metrics/per-object")) > 50 * 20
    connection.close()


@check
def wrong_requests_are_refused():
    for path, status in (("/metrics/nothing", 404), ("/metrics/detailed?queue=a&queue=b", 400),
                         ("/metrics/detailed?queue=(", 400)):
        try:
            scrape(path)
        except urllib.error.HTTPError as error:
            same((path, error.code), (path, status))
        else:
            raise AssertionError("%s was answered" % path)


run_all()
