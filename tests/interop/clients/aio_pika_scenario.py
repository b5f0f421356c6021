"""aio-pika: asyncio, on its own codec (aiormq and pamqp)."""
import asyncio
import os

import aio_pika


async def main():
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=10)
        exchange = await channel.declare_exchange("aio-fanout", aio_pika.ExchangeType.FANOUT, auto_delete=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange)
        for index in range(100):
            await exchange.publish(aio_pika.Message(b"%d" % index, headers={"n": index, "f": 1.5}, delivery_mode=2), routing_key="")
        seen = 0
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    assert message.body == b"%d" % seen and message.headers == {"n": seen, "f": 1.5}
                seen += 1
                if seen == 100:
                    break
        other = await connection.channel()
        try:
            await other.declare_queue("no such queue", passive=True)
            raise AssertionError("404")
        except aio_pika.exceptions.ChannelNotFoundEntity:
            pass
    print("ok")


asyncio.run(asyncio.wait_for(main(), 60))
