"""A Celery application as its documents advise for RabbitMQ 4: a quorum queue on a topic exchange.

Celery then leaves tasks with a countdown to the broker: a ladder of quorum queues, one a bit of the delay in seconds,
each of which dead-letters what its TTL ends to the next.
"""

import os
import time

from celery import Celery

QUEUE = os.environ["INTEROP_CELERY_QUORUM_QUEUE"]
DELAY_LEVELS = 28

app = Celery("interop-quorum", broker=os.environ["AMQP_URI"], backend="rpc://", set_as_current=False)
app.conf.update(
    task_default_queue=QUEUE,
    task_default_queue_type="quorum",
    task_default_exchange=QUEUE,
    task_default_exchange_type="topic",
    task_default_routing_key=QUEUE,
    worker_detect_quorum_queues=True,
    worker_prefetch_multiplier=1,
    worker_concurrency=1,
    result_expires=60,
    broker_connection_retry_on_startup=True,
)


@app.task
def now():
    return time.time()
