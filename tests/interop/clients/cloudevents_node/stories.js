// npm's cloudevents, standardwebhooks, eventsource and ws at both ends of the event bus.
const assert = require('assert')
const http = require('http')
const readline = require('readline')
const { CloudEvent, HTTP, Mode, emitterFor, httpTransport } = require('cloudevents')
const { Webhook } = require('standardwebhooks')
const { EventSource } = require('eventsource')
const WebSocket = require('ws')

const URL_ = process.env.HTTP_URL
const VECTOR_SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const stories = {}

const event = (type, data, more = {}) => new CloudEvent({ source: '/sdk/node', type, data, ...more })

async function ask(method, path, body, headers = {}) {
  const answer = await fetch(URL_ + path, { method, body, headers })
  const text = await answer.text()
  return [answer.status, text ? JSON.parse(text) : null]
}

const post = message => ask('POST', '/events', message.body, message.headers)

// The first events of a type, in JSON, as the stream of events has them.
async function heard(type, count = 1) {
  const stop = new AbortController()
  const answer = await fetch(`${URL_}/events?from=first&type=${type}`, { signal: stop.signal })
  let text = ''
  for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
    text += piece
    const lines = text.split('\n').slice(0, -1).filter(line => line.startsWith('data: '))
    if (lines.length >= count) {
      stop.abort()
      return lines.map(line => line.slice(6))
    }
  }
}

const reads = json => HTTP.toEvent({ headers: { 'content-type': 'application/cloudevents+json' }, body: json })

function alike(found, sent, names = ['id', 'source', 'type', 'specversion', 'time', 'subject', 'dataschema', 'datacontenttype', 'data']) {
  for (const name of names) assert.deepStrictEqual(found[name], sent[name], name)
}

// A program with a hook: `next()` is the next [headers, body].
async function receiver(types, config = {}) {
  const came = [], waiting = []
  const server = http.createServer((request, answer) => {
    const pieces = []
    request.on('data', piece => pieces.push(piece)).on('end', () => {
      const one = [request.headers, Buffer.concat(pieces).toString()]
      if (waiting.length) waiting.shift()(one)
      else came.push(one)
      answer.writeHead(204).end()
    })
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const sink = `http://127.0.0.1:${server.address().port}/hook`
  const [status, made] = await ask('POST', '/subscriptions', JSON.stringify({ types, sink, config }), { 'content-type': 'application/json' })
  assert.strictEqual(status, 201, JSON.stringify(made))
  return {
    id: made.id,
    secret: made.config.secrets[0],
    next: () => came.length ? Promise.resolve(came.shift()) : new Promise(resolve => waiting.push(resolve)),
    close: async () => {
      await ask('DELETE', `/subscriptions/${made.id}`)
      server.closeAllConnections()
      server.close()
    },
  }
}

const samples = type => [
  event(type, { id: 7, text: 'grüße "%"' }, { subject: 'a/b?c', dataschema: 'http://example.com/schema', tenant: 'a' }),
  event(type, 'text, no JSON: ä', { datacontenttype: 'text/plain' }),
  event(type, { n: 1 }, { datacontenttype: 'application/json; charset=utf-8' }),
]

stories.structured = async () => {
  const sent = [...samples('js.structured'), event('js.structured', { n: 1 }, { count: 3, good: true, subject: 'grüße "100%"' })]
  for (const one of sent) assert.deepStrictEqual(await post(HTTP.structured(one)), [201, { id: one.id }])
  const found = (await heard('js.structured', sent.length)).map(reads)
  found.forEach((one, i) => alike(one, sent[i], ['id', 'source', 'type', 'time', 'subject', 'data']))
  assert.deepStrictEqual([found[3].count, found[3].good], [3, true])
}

stories.binary = async () => {
  const sent = samples('js.binary')
  for (const one of sent) assert.deepStrictEqual(await post(HTTP.binary(one)), [201, { id: one.id }])
  const found = (await heard('js.binary', sent.length)).map(reads)
  found.forEach((one, i) => alike(one, sent[i], ['id', 'source', 'type', 'time', 'subject', 'data']))
  const bytes = event('js.bytes', new Uint8Array([0, 1, 255]), { datacontenttype: 'application/octet-stream' })
  assert.strictEqual((await post(HTTP.binary(bytes)))[0], 201)
  assert.strictEqual(JSON.parse((await heard('js.bytes'))[0]).data_base64, 'AAH/')
}

stories.batch = async () => {
  const sent = samples('js.batch')
  const body = JSON.stringify(sent)
  assert.deepStrictEqual(await ask('POST', '/events', body, { 'content-type': 'application/cloudevents-batch+json' }), [201, { count: 3 }])
  const text = `[${(await heard('js.batch', 3)).join()}]`
  const found = HTTP.toEvent({ headers: { 'content-type': 'application/cloudevents-batch+json' }, body: text })
  found.forEach((one, i) => alike(one, sent[i], ['id', 'source', 'type', 'time', 'subject', 'data']))
}

stories['an-emitter'] = async () => {
  for (const mode of [Mode.BINARY, Mode.STRUCTURED]) {
    const emit = emitterFor(httpTransport(`${URL_}/events`), { mode })
    const answer = await emit(event('js.emitted', { mode }))
    assert.ok(JSON.parse(answer.body).id)
  }
  assert.deepStrictEqual((await heard('js.emitted', 2)).map(one => JSON.parse(one).data.mode), ['binary', 'structured'])
}

stories.webhook = async () => {
  const hook = await receiver(['js.webhook'])
  for (const sent of samples('js.webhook')) {
    for (const write of [HTTP.structured, HTTP.binary]) {
      assert.strictEqual((await post(write(sent)))[0], 201)
      const [headers, body] = await hook.next()
      const found = HTTP.toEvent({ headers, body })
      alike(found, sent, ['id', 'source', 'type', 'time', 'subject', 'dataschema', 'tenant', 'data'])
      if (found.datacontenttype.startsWith('application/json')) assert.deepStrictEqual(new Webhook(hook.secret).verify(body, headers), sent.data)
    }
  }
  await hook.close()
}

stories.signatures = async () => {
  const fresh = 'whsec_' + require('crypto').randomBytes(24).toString('base64')
  const hook = await receiver(['js.signed'], { secrets: [VECTOR_SECRET] })
  const verifies = (secret, headers, body) => {
    try {
      new Webhook(secret).verify(body, headers, { jsonParse: false })
      return true
    } catch (error) {
      return false
    }
  }
  for (const [secrets, good] of [[[VECTOR_SECRET], [true, false]], [[VECTOR_SECRET, fresh], [true, true]], [[fresh], [false, true]]]) {
    assert.strictEqual((await ask('PATCH', `/subscriptions/${hook.id}`, JSON.stringify({ config: { secrets } }), { 'content-type': 'application/merge-patch+json' }))[0], 200)
    await post(HTTP.structured(event('js.signed', { text: 'grüße' })))
    const [headers, body] = await hook.next()
    assert.deepStrictEqual([VECTOR_SECRET, fresh].map(secret => verifies(secret, headers, body)), good)
    assert.ok(!verifies(secrets[0], headers, body + ' '))
    assert.ok(!verifies(secrets[0], { ...headers, 'webhook-timestamp': String(Number(headers['webhook-timestamp']) - 1) }, body))
  }
  const signed = new Webhook(VECTOR_SECRET).sign('msg_p5jXN8AQM9LWM0D4loKWxJek', new Date(1614265330000), '{"test": 2432232314}')
  assert.strictEqual(signed, 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
  await hook.close()
}

const eventually = async question => {
  for (let tries = 0; tries < 1000 && !question(); tries++) await new Promise(resolve => setTimeout(resolve, 20))
  assert.ok(question(), String(question))
}

stories['event-source'] = async () => {
  const source = new EventSource(`${URL_}/events?type=js.heard.*`), found = []
  source.onmessage = message => found.push(reads(message.data).data)
  await new Promise(resolve => { source.onopen = resolve })
  const socket = new WebSocket(`${URL_.replace('http', 'ws')}/events?type=js.heard.*&ack=manual`), said = []
  socket.on('message', text => {
    said.push(JSON.parse(text))
    socket.send(JSON.stringify({ ack: JSON.parse(text).id }))
  })
  await new Promise(resolve => socket.once('open', resolve))
  for (let i = 0; i < 50; i++) await post(HTTP.binary(event(`js.heard.${i}`, { i })))
  await eventually(() => found.length === 50 && said.length === 50)
  assert.deepStrictEqual(found.map(data => data.i), [...Array(50).keys()])
  assert.deepStrictEqual(said.map(one => new CloudEvent(one.event).data.i), [...Array(50).keys()])
  const closed = new Promise(resolve => socket.once('close', resolve))
  console.log('restart')
  await new Promise(resolve => readline.createInterface({ input: process.stdin }).once('line', resolve))
  assert.strictEqual(await closed, 1001)
  await post(HTTP.structured(event('js.heard.later', { i: 50 })))
  await eventually(() => found.length === 51)
  assert.strictEqual(found[50].i, 50)
  source.close()
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
