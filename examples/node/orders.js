// Orders are published and handled: one comes again because its handler has failed, one takes a while.
//
//   npm install; GODWIT_LIBRARY=build/libgodwit.so GODWIT_HEADER=include/godwit.h node examples/node/orders.js [orders.gw | amqp://localhost]
const { Loop } = require('./godwit')

async function main(where) {
  const loop = new Loop(), bus = loop.bus(where)
  let left = 3
  const handled = new Promise(resolve => {
    bus.on('order.*', async event => {
      const order = JSON.parse(event.data)
      console.log(`${event.type} ${order.id}, attempt ${event.attempt}`)
      if (order.id === 2 && event.attempt === 1) throw new Error('out of stock')   // it comes again
      if (order.id === 3) await new Promise(later => setTimeout(later, 50))
      if (--left === 0) setImmediate(resolve)
    }, { name: 'orders', concurrency: 10, retries: 3, retry_delays_ms: [100] })
  })
  await Promise.all([1, 2, 3].map(id => bus.publish('order.created', JSON.stringify({ id }),
    { id: `order-${id}`, source: '/shop', content_type: 'application/json', headers: { tenant: 'a' } })))
  console.log('durable')
  await handled
  console.log(`closed: ${await bus.close()}`)
  loop.free()
}

main(process.argv[2] || 'orders.gw')
