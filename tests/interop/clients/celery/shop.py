"""A Celery application as people write them: a shop whose work is done elsewhere. stories.py starts workers for it.

Results of the shop come back over AMQP (rpc://). Chords need a result store that several tasks may read, so those of the warehouse are files.
"""
import os
import time

import celery
import celery.exceptions
import kombu

URL = os.environ["AMQP_URL"]
FILES = os.environ["RESULTS_DIRECTORY"]

shop = celery.Celery("shop", broker=URL, backend="rpc://", set_as_current=False)
shop.conf.update(
    task_default_queue="shop.tasks",
    task_queues=[kombu.Queue("shop.tasks", kombu.Exchange("shop"), routing_key="shop.tasks", max_priority=10, queue_arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "shop.dead"})],
    task_default_exchange="shop", task_default_routing_key="shop.tasks", task_default_priority=5,
    worker_prefetch_multiplier=1, broker_connection_retry=True, broker_connection_max_retries=100, result_expires=60,
    broker_transport_options={"interval_start": 0.1, "interval_step": 0.1})

warehouse = celery.Celery("warehouse", broker=URL, backend="file://" + FILES, set_as_current=False)
warehouse.conf.update(task_default_queue="warehouse.tasks", result_chord_retry_interval=0.1)

# What waits for its time waits in the broker, in a ladder of quorum queues with a time to live each (Celery 5.5 and later).
courier = celery.Celery("courier", broker=URL, backend="file://" + FILES, set_as_current=False)
courier.conf.update(task_default_queue="courier.tasks", task_default_queue_type="quorum", task_default_exchange_type="topic",
                    broker_native_delayed_delivery_queue_type="quorum", broker_transport_options={"confirm_publish": True})


@shop.task
def add(left, right):
    return left + right


@shop.task
def when():
    return time.time()


@shop.task
def note(line, seconds=0):
    """Appends a line to a file, so that the order in which tasks ran can be read."""
    with open(os.path.join(FILES, "notes"), "a") as notes:
        notes.write(line + "\n")
    time.sleep(seconds)


@shop.task(bind=True, max_retries=5)
def flaky(self, failures):
    """Fails a few times, asking to be called again each time."""
    if self.request.retries < failures:
        raise self.retry(countdown=0.1, exc=RuntimeError("not yet"))
    return self.request.retries


@shop.task(autoretry_for=(KeyError,), retry_kwargs={"max_retries": 1, "countdown": 0})
def hopeless():
    raise KeyError("never")


@shop.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def interrupted(self, first_seconds):
    """Takes long when it is delivered first, no time when it is delivered again."""
    if not self.request.delivery_info["redelivered"]:
        note("interrupted has begun")
        time.sleep(first_seconds)
    return self.request.delivery_info["redelivered"]


@shop.task(bind=True, acks_late=True)
def refused(self):
    raise celery.exceptions.Reject("no such order", requeue=False)


@shop.task(bind=True, acks_late=True)
def stubborn(self, times):
    """Gives its message back so often: when it comes again the broker decides."""
    note(f"stubborn {time.time()}")
    with open(os.path.join(FILES, "notes")) as notes:
        came = len(notes.readlines())
    if came <= times:
        raise celery.exceptions.Reject("not yet", requeue=True)
    return self.request.delivery_info["redelivered"]


@warehouse.task
def weigh(kilograms):
    return kilograms


@courier.task
def deliver():
    return time.time()


@warehouse.task
def total(weights):
    return sum(weights)
