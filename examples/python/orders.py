"""Orders are published and handled: one comes again because its handler has failed, one is answered later, one is asked for.

    GODWIT_LIBRARY=build/libgodwit.so GODWIT_HEADER=include/godwit.h python3 examples/python/orders.py [orders.gw | amqp://localhost]
"""
import json
import sys

import godwit


def main(where):
    with godwit.Loop() as loop:
        bus, handled = loop.bus(where), []

        def on_order(event):
            order = json.loads(event.data)
            print(f"{event.type} {order['id']}, attempt {event.attempt}", flush=True)
            if order["id"] == 2 and event.attempt == 1:
                raise RuntimeError("out of stock")                     # it comes again
            if order["id"] == 3:
                kept = event.later()                                    # it is answered when the timer has fired
                loop.timer(50, lambda: (kept.ack(), done(3)))
            else:
                done(order["id"])

        def done(number):
            handled.append(number)
            if len(handled) == 3:
                bus.close(closed=lambda result: print(f"closed: {result}", flush=True))

        bus.on("order.*", on_order, name="orders", concurrency=10, retries=3, retry_delays_ms=[100])
        for number in (1, 2, 3):
            bus.publish("order.created", json.dumps({"id": number}).encode(), published=lambda result: print(f"durable: {result}", flush=True), id=f"order-{number}",
                        source="/shop", content_type="application/json", headers={"tenant": "a"})
        loop.run()


main(sys.argv[1] if len(sys.argv) > 1 else "orders.gw")
