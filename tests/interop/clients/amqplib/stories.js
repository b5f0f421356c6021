// npm's amqplib, with promises. Each story is a function whose name says what is shown.
const amqp = require('amqplib')
const assert = require('assert')
const readline = require('readline')

const URL = process.env.AMQP_URL || 'amqp://guest:guest@127.0.0.1:5672/%2f'
const stories = {}
const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

async function connect(url = URL) {
  const connection = await amqp.connect(url)
  connection.on('error', () => {})
  return connection
}

async function newChannel(connection) {
  const channel = await connection.createConfirmChannel()
  channel.on('error', () => {})   // A channel that was closed says so to whoever asked it for something, too.
  return channel
}

// A story with a channel of a connection of its own, which is closed when the story ends.
function withChannel(name, tell) {
  stories[name] = async () => {
    const connection = await connect()
    try {
      await tell(await newChannel(connection), connection)
    } finally {
      await connection.close()
    }
  }
}

async function declare(channel, options = {}, name = '') {
  return (await channel.assertQueue(name, { exclusive: true, durable: false, ...options })).queue
}

async function send(channel, queue, body, options = {}) {
  channel.sendToQueue(queue, Buffer.from(body), options)
  await channel.waitForConfirms()
}

// The next message, waiting a little for it, unacknowledged.
async function get(channel, queue) {
  for (let tries = 0; tries < 250; tries++) {
    const message = await channel.get(queue)
    if (message) return message
    await sleep(20)
  }
  assert.fail(`${queue} stays empty`)
}

async function bodies(channel, queue, count) {
  const found = []
  for (let i = 0; i < count; i++) {
    const message = await get(channel, queue)
    channel.ack(message)
    found.push(message.content.toString())
  }
  return found
}

// It must fail with this code; answers the broker's words.
async function closes(code, promise) {
  try {
    await promise
  } catch (error) {
    assert.strictEqual(error.code, code, error.message)
    return error.message
  }
  assert.fail(`${code} was expected`)
}

const deaths = message => message.properties.headers['x-death'].map(death => [death.queue, death.reason, death.count])

withChannel('topology', async channel => {
  await channel.assertExchange('js.topic', 'topic')
  await channel.assertExchange('js.fanout', 'fanout')
  const queue = await declare(channel)
  await channel.bindQueue(queue, 'js.topic', '*.rain.#')
  await channel.bindExchange('js.topic', 'js.fanout', '')
  channel.publish('js.fanout', 'paris.rain', Buffer.from('wet'))
  channel.publish('js.fanout', 'paris.sun', Buffer.from('dry'))
  assert.deepStrictEqual(await bodies(channel, queue, 1), ['wet'])
  await channel.unbindExchange('js.topic', 'js.fanout', '')
  await channel.unbindQueue(queue, 'js.topic', '*.rain.#')
  await channel.deleteExchange('js.topic', { ifUnused: true })
  await channel.deleteExchange('js.fanout', { ifUnused: true })
  assert.deepStrictEqual(await channel.deleteQueue(queue, { ifEmpty: true }), { messageCount: 0 })
})

withChannel('confirms', async channel => {
  const queue = await declare(channel)
  for (let i = 0; i < 100; i++)
    channel.sendToQueue(queue, Buffer.from(String(i)), { persistent: true, headers: { n: i, list: [1.5, 'x', null], deep: { yes: true } } })
  await channel.waitForConfirms()
  const message = await get(channel, queue)
  assert.deepStrictEqual(message.properties.headers, { n: 0, list: [1.5, 'x', null], deep: { yes: true } })
  assert.strictEqual((await channel.checkQueue(queue)).messageCount, 99)
})

withChannel('returns', async channel => {
  const returned = new Promise(resolve => channel.once('return', resolve))
  channel.publish('', 'js.nowhere', Buffer.from('back to me'), { mandatory: true })
  const { fields, content } = await returned
  assert.deepStrictEqual([fields.replyCode, fields.replyText, content.toString()], [312, 'NO_ROUTE', 'back to me'])
})

withChannel('acknowledgements', async channel => {
  const queue = await declare(channel)
  for (const body of 'abcd') await send(channel, queue, body)
  const messages = []
  for (let i = 0; i < 4; i++) messages.push(await get(channel, queue))
  channel.ack(messages[0])
  channel.nack(messages[1], false, true)
  channel.reject(messages[2], false)
  channel.reject(messages[3], true)
  const again = [await get(channel, queue), await get(channel, queue)]
  assert.deepStrictEqual(again.map(message => [message.content.toString(), message.fields.redelivered]), [['b', true], ['d', true]])
  channel.ack(again[1], true)
  assert.strictEqual(await channel.get(queue), false)
})

withChannel('prefetch', async channel => {
  const queue = await declare(channel), inbox = []
  for (let i = 0; i < 10; i++) await send(channel, queue, String(i))
  await channel.prefetch(3)
  await channel.consume(queue, message => inbox.push(message))
  await sleep(300)
  assert.strictEqual(inbox.length, 3)
  channel.ack(inbox[1], true)
  await sleep(300)
  assert.strictEqual(inbox.length, 5)
})

withChannel('retry-ladder', async channel => {
  const work = await declare(channel, { deadLetterExchange: '', deadLetterRoutingKey: 'js.wait' }, 'js.work')
  await declare(channel, { messageTtl: 100, deadLetterExchange: '', deadLetterRoutingKey: 'js.work' }, 'js.wait')
  await send(channel, work, 'fails twice', { persistent: true, headers: { mine: 1 } })
  for (let i = 0; i < 2; i++) channel.nack(await get(channel, work), false, false)
  const message = await get(channel, work)
  assert.deepStrictEqual(deaths(message), [['js.wait', 'expired', 2], ['js.work', 'rejected', 2]])
  const { headers } = message.properties
  assert.deepStrictEqual([headers.mine, headers['x-first-death-queue'], headers['x-first-death-reason']], [1, 'js.work', 'rejected'])
})

// The same without a second queue; RabbitMQ has no such thing.
withChannel('retry-backoff', async (channel, connection) => {
  if (!String(connection.connection.serverProperties.copyright).includes('Godwit')) return
  const dead = await declare(channel)
  const backoff = { 'x-retry-backoff': [100, '300ms'], 'x-delivery-limit': 2 }
  const queue = await declare(channel, { deadLetterExchange: '', deadLetterRoutingKey: dead, arguments: backoff })
  await send(channel, queue, 'fails', { persistent: true, headers: { mine: 1 } })
  const waited = []
  let before = Date.now()
  await channel.consume(queue, message => {
    const { headers } = message.properties
    assert.deepStrictEqual([headers['x-delivery-count'], headers['x-retry-reason']], waited.length ? [waited.length, 'rejected'] : [undefined, undefined])
    waited.push(Date.now() - before)
    before = Date.now()
    channel.nack(message)
  })
  const { headers } = (await get(channel, dead)).properties
  assert.deepStrictEqual([headers.mine, headers['x-delivery-count'], headers['x-last-death-reason']], [1, 3, 'delivery_limit'])
  assert(waited.length === 3 && waited[1] >= 99 && waited[2] >= 299, String(waited))   // its clock may be a millisecond off
})

withChannel('priorities', async channel => {
  const queue = await declare(channel, { maxPriority: 10 })
  for (const priority of [1, 10, 5, 10]) await send(channel, queue, String(priority), { priority })
  assert.deepStrictEqual(await bodies(channel, queue, 4), ['10', '10', '5', '1'])
})

withChannel('alternate-exchange', async channel => {
  const queue = await declare(channel)
  await channel.assertExchange('js.unrouted', 'fanout', { autoDelete: true })
  await channel.bindQueue(queue, 'js.unrouted', '')
  await channel.assertExchange('js.routed', 'direct', { alternateExchange: 'js.unrouted' })
  channel.publish('js.routed', 'no such key', Buffer.from('caught'))
  assert.deepStrictEqual(await bodies(channel, queue, 1), ['caught'])
  await channel.deleteExchange('js.routed')
})

withChannel('carbon-copies', async channel => {
  const [first, second, third] = [await declare(channel), await declare(channel), await declare(channel)]
  await send(channel, first, 'to three', { CC: second, BCC: [third] })
  for (const queue of [first, second, third])
    assert.deepStrictEqual((await get(channel, queue)).properties.headers, { CC: [second] })
})

withChannel('headers-exchange', async channel => {
  const queue = await declare(channel)
  await channel.assertExchange('js.by-headers', 'headers', { autoDelete: true })
  await channel.bindQueue(queue, 'js.by-headers', '', { 'x-match': 'any', kind: 'a', size: 2 })
  for (const headers of [{ kind: 'b', size: 3 }, { kind: 'a' }, { size: 2, more: 'x' }])
    channel.publish('js.by-headers', '', Buffer.from(Object.keys(headers).join()), { headers })
  assert.deepStrictEqual(await bodies(channel, queue, 2), ['kind', 'size,more'])
  assert.strictEqual(await channel.get(queue), false)
})

withChannel('expiry', async (channel, connection) => {
  const dead = await declare(channel)
  const queue = await declare(channel, { deadLetterExchange: '', deadLetterRoutingKey: dead })
  await send(channel, queue, 'short-lived', { expiration: 60 })
  const { headers, expiration } = (await get(channel, dead)).properties
  assert.deepStrictEqual([headers['x-death'][0]['original-expiration'], expiration], ['60', undefined])
  await channel.assertQueue('js.expires', { expires: 150, durable: false })
  await sleep(600)
  await closes(404, (await newChannel(connection)).checkQueue('js.expires'))
})

withChannel('length-limits', async channel => {
  const newest = await declare(channel, { maxLength: 2 })
  for (const body of 'abcd') await send(channel, newest, body)
  assert.deepStrictEqual(await bodies(channel, newest, 2), ['c', 'd'])
  const full = await declare(channel, { maxLength: 1, overflow: 'reject-publish' })
  await send(channel, full, 'fits')
  await assert.rejects(send(channel, full, 'does not'), /nacked/)
})

withChannel('delivery-limit', async channel => {
  const dead = await declare(channel), counts = []
  await channel.assertQueue('js.quorum', { durable: true, arguments: {
    'x-queue-type': 'quorum', 'x-delivery-limit': 2, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead } })
  const { consumerTag } = await channel.consume('js.quorum', message => {
    counts.push((message.properties.headers || {})['x-delivery-count'])
    channel.nack(message)
  })
  await send(channel, 'js.quorum', 'poison', { persistent: true })
  assert.strictEqual((await get(channel, dead)).properties.headers['x-death'][0].reason, 'delivery_limit')
  assert.deepStrictEqual(counts, [undefined, 1, 2])
  await channel.cancel(consumerTag)
  await channel.deleteQueue('js.quorum')
})

withChannel('single-active-consumer', async channel => {
  const queue = await declare(channel, { arguments: { 'x-single-active-consumer': true } }), seen = []
  const first = await channel.consume(queue, message => seen.push(`first ${message.content}`), { noAck: true })
  await channel.consume(queue, message => message && seen.push(`second ${message.content}`), { noAck: true })
  for (const body of 'ab') await send(channel, queue, body)
  await sleep(100)
  await channel.cancel(first.consumerTag)
  await send(channel, queue, 'c')
  await sleep(200)
  assert.deepStrictEqual(seen, ['first a', 'first b', 'second c'])
})

withChannel('stream', async (channel, connection) => {
  await channel.assertQueue('js.stream', { durable: true, arguments: { 'x-queue-type': 'stream' } })
  for (let i = 0; i < 20; i++) channel.sendToQueue('js.stream', Buffer.from(String(i)), { persistent: true })
  await channel.waitForConfirms()
  for (const [offset, begin] of [['first', 0], [15, 15]]) {
    const reader = await newChannel(connection), seen = []
    await reader.prefetch(5)
    await reader.consume('js.stream', message => {
      seen.push([Number(message.content.toString()), message.properties.headers['x-stream-offset']])
      reader.ack(message)
    }, { arguments: { 'x-stream-offset': offset } })
    for (let tries = 0; tries < 100 && seen.length < 20 - begin; tries++) await sleep(20)
    await reader.close()
    assert.deepStrictEqual(seen, Array.from({ length: 20 - begin }, (_, i) => [begin + i, begin + i]))
  }
  await channel.deleteQueue('js.stream')
})

withChannel('direct-reply-to', async (channel, connection) => {
  const questions = await declare(channel), server = await newChannel(connection)
  const answered = new Promise(resolve => channel.consume('amq.rabbitmq.reply-to', resolve, { noAck: true }))
  await sleep(100)
  await send(channel, questions, '20 + 1', { replyTo: 'amq.rabbitmq.reply-to', correlationId: '7' })
  const question = await get(server, questions)
  server.sendToQueue(question.properties.replyTo, Buffer.from('21'), { correlationId: question.properties.correlationId })
  server.ack(question)
  const answer = await answered
  assert.deepStrictEqual([answer.content.toString(), answer.properties.correlationId], ['21', '7'])
})

withChannel('cancellation', async (channel, connection) => {
  await channel.assertQueue('js.going', { durable: false })
  const cancelled = new Promise(resolve => channel.consume('js.going', resolve))
  await sleep(100)
  await (await newChannel(connection)).deleteQueue('js.going')
  assert.strictEqual(await cancelled, null)
})

stories.errors = async () => {
  const connection = await connect(), other = await connect()
  const channel = () => newChannel(connection)
  assert.match(await closes(404, (await channel()).checkQueue('js.none')), /NOT_FOUND - no queue 'js.none' in vhost '\/'/)
  await closes(404, (await channel()).checkExchange('js.none'))
  await closes(403, (await channel()).assertQueue('amq.mine'))
  await closes(403, (await channel()).deleteExchange('amq.fanout'))
  await declare(await channel(), {}, 'js.locked')
  await closes(405, (await newChannel(other)).checkQueue('js.locked'))
  await closes(406, (await channel()).assertQueue('js.locked', { exclusive: true, durable: false, maxLength: 7 }))
  await closes(406, (await channel()).assertQueue('js.wrong', { arguments: { 'x-max-length': -7 } }))
  await closes(406, (await channel()).assertExchange('amq.topic', 'direct'))
  await assert.rejects(connect(URL.replace('%2f', 'no-such-vhost')), /ConnectionClose/)
  await assert.rejects(connect(URL.replace('guest:guest', 'guest:wrong')), /403|ACCESS.REFUSED/)
  await connection.close()
  await other.close()
}

stories.recovery = async () => {
  const connection = await connect()
  const channel = await newChannel(connection)
  await channel.assertQueue('js.durable')
  channel.sendToQueue('js.durable', Buffer.from('kept'), { persistent: true })
  channel.sendToQueue('js.durable', Buffer.from('lost'), { persistent: false })
  await channel.waitForConfirms()
  const closed = new Promise(resolve => connection.once('close', resolve))
  console.log('restart')
  await new Promise(resolve => readline.createInterface({ input: process.stdin }).once('line', resolve))
  await closed
  const again = await connect()
  const reading = await newChannel(again)
  assert.deepStrictEqual(await bodies(reading, 'js.durable', 1), ['kept'])
  assert.strictEqual(await reading.get('js.durable'), false)
  await reading.deleteQueue('js.durable')
  await again.close()
  process.stdin.unref()
}

function inTime(promise, seconds = 30) {
  let timer
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no end after ${seconds} s`)), seconds * 1000) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function main(names) {
  for (const name of Object.keys(stories)) {
    if (names.length && !names.includes(name)) continue
    try {
      await inTime(stories[name]())
      console.log(`ok ${name}`)
    } catch (error) {
      const lines = [...(error.stack || '').matchAll(/stories\.js:(\d+)/g)].map(found => found[1]).reverse()
      console.log(`FAILED ${name}: line ${lines.join(' > ')}: ${String(error).split(/\s+/).join(' ')}`)
    }
  }
  process.exit(0)
}

main(process.argv.slice(2))
