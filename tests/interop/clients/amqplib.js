// npm's amqplib: callbacks and promises over one parser of its own.
const amqp = require('amqplib')
const assert = require('assert')

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL)
  const channel = await connection.createConfirmChannel()
  const { queue } = await channel.assertQueue('', { exclusive: true })
  assert(queue.startsWith('amq.gen-'))
  await channel.assertExchange('js-topic', 'topic', { durable: false, autoDelete: true })
  await channel.bindQueue(queue, 'js-topic', 'a.#')
  for (let i = 0; i < 100; i++)
    channel.publish('js-topic', `a.${i}`, Buffer.from(String(i)), { persistent: true, headers: { n: i, list: [1.5, 'x', null] } })
  await channel.waitForConfirms()
  await channel.prefetch(10)
  let seen = 0
  await new Promise((resolve, reject) => channel.consume(queue, message => {
    try {
      assert.strictEqual(message.content.toString(), String(seen))
      assert.deepStrictEqual(message.properties.headers, { n: seen, list: [1.5, 'x', null] })
      channel.ack(message)
      if (++seen === 100) resolve()
    } catch (error) { reject(error) }
  }))
  const returned = new Promise(resolve => channel.once('return', resolve))
  channel.publish('', 'nowhere', Buffer.from('back'), { mandatory: true })
  assert.strictEqual((await returned).fields.replyCode, 312)
  assert.strictEqual((await channel.checkQueue(queue)).messageCount, 0)
  const broken = await connection.createChannel()
  broken.on('error', () => {})
  await assert.rejects(broken.checkQueue('no such queue'), /404/)
  await channel.sendToQueue(queue, Buffer.alloc(3000000, 7))
  await channel.waitForConfirms()
  await connection.close()
  console.log('ok')
}

main().catch(error => { console.error(error); process.exit(1) })
