"""The Celery application that the suite calls and its worker runs: one task of each kind."""

import os
import time

from celery import Celery

app = Celery("interop", broker=os.environ["AMQP_URI"], backend="rpc://")
app.conf.update(
    task_default_queue=os.environ["INTEROP_CELERY_QUEUE"],
    worker_prefetch_multiplier=1,
    worker_concurrency=1,
    result_expires=60,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_enable_remote_control=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)


@app.task
def add(left, right):
    return left + right


@app.task
def now():
    return time.time()


@app.task
def fail():
    raise ValueError("as asked")


@app.task(bind=True, max_retries=3)
def succeed_at_third_try(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def redelivered(self):
    return bool(self.request.delivery_info["redelivered"])
