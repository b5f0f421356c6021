// libgodwit in Node.js, by way of koffi (npm): the header is read as it is, nothing is compiled.
//
//   const { Loop } = require('./godwit')
//   const loop = new Loop(), bus = loop.open('orders.gw')       // or loop.connect('amqp://localhost')
//   bus.on('order.*', event => console.log(event.type, event.data.toString()), { retries: 5 })
//   await bus.publish('order.created', '{}')                    // until it is durable
//   await bus.close()
//
// GODWIT_LIBRARY and GODWIT_HEADER say where the library and its header are, when they are not installed.
const fs = require('fs')
const koffi = require('koffi')

const IDLE_MS = 10   // Node's own loop cannot wait for a descriptor of another one, so libgodwit's is looked at this often while nothing happens.

const header = fs.readFileSync(process.env.GODWIT_HEADER || '/usr/include/godwit.h', 'utf8')
  .replace(/\/\*[^]*?\*\//g, '').replace(/#ifdef __cplusplus[^]*?#endif/g, '')
const library = koffi.load(process.env.GODWIT_LIBRARY || 'libgodwit.so.0')

// ---- what the header declares

const callbacks = [...header.matchAll(/typedef (\w+) \(\*(\w+)\)\(([^)]*)\);/g)].map(found => found[2])
const plain = text => text.replace(/\benum \w+/g, 'int').replace(/\bstruct uv_loop_s\b/g, 'void').replace(/void \(\*\w+\)\([^)]*\)/g, 'void *')
const typed = text => plain(text).replace(new RegExp(`\\b(${callbacks.join('|')})\\b`, 'g'), '$1 *')

for (const [, name] of header.matchAll(/typedef struct (\w+) \1;/g)) koffi.opaque(name)
for (const [, result, name, parameters] of header.matchAll(/typedef (\w+) \(\*(\w+)\)\(([^)]*)\);/g)) koffi.proto(`${result} ${name}(${plain(parameters)})`)

// "const char *name, *value;" and "uint64_t reserved[8];" as pairs of names and types.
function members(body) {
  const found = {}
  for (const line of body.split(';').map(part => part.trim()).filter(Boolean)) {
    const [, base, rest] = typed(line).match(/^((?:const )?\w+(?: \*(?= *\w+$))?)\s*(.*)$/)
    for (const one of rest.split(',')) {
      const [, stars, name, count] = one.trim().match(/^(\**)\s*(?:const \*)?(\w+)(?:\[(\d+)\])?$/)
      const type = `${base} ${stars}`.trim()
      found[name] = count ? koffi.array(type, Number(count)) : type
    }
  }
  return found
}

const structures = {}
for (const [, name, body] of header.matchAll(/typedef struct (\w+) \{([^}]*)\} \1;/g)) structures[name] = koffi.struct(name, members(body))

const c = {}
for (const [, declaration, name] of header.matchAll(/GW_API ((?:[\w *]+?)\b(\w+)\([^;]*\));/g)) c[name] = library.func(typed(declaration))

const results = Object.fromEntries([...header.matchAll(/(GW_\w+) = (-?\d+)/g)].map(found => [found[1], Number(found[2])]))

class GodwitError extends Error {
  constructor(result, sentence) {
    super(sentence || c.gw_result_text(result))
    this.result = result
  }
}

// A structure of options; what its pointers point to is in `kept`.
function options(kind, values) {
  const made = {}
  for (const [name, value] of Object.entries(values)) {
    if (name === 'headers') {
      const pairs = Object.entries(value).map(([key, text]) => ({ name: key, value: String(text) }))
      made.headers = koffi.alloc('gw_header', pairs.length)
      koffi.encode(made.headers, koffi.array('gw_header', pairs.length), pairs)
      made.header_count = pairs.length
    } else if (name === 'retry_delays_ms') {
      made.retry_delays_ms = koffi.alloc('uint64_t', value.length)
      koffi.encode(made.retry_delays_ms, koffi.array('uint64_t', value.length), value)
      made.retry_delay_count = value.length
    } else {
      made[name] = value
    }
  }
  return made
}

class Event {
  constructor(pointer) {
    this.pointer = pointer
    for (const name of ['type', 'id', 'source', 'subject', 'content_type', 'key']) this[name] = c[`gw_event_${name}`](pointer)
    const size = Number(c.gw_event_size(pointer))
    this.data = size ? Buffer.from(koffi.decode(c.gw_event_data(pointer), koffi.array('uint8_t', size))) : Buffer.alloc(0)
    this.attempt = c.gw_event_attempt(pointer)
  }

  header(name) { return c.gw_event_header(this.pointer, name) }

  answer(function_, ...more) {
    if (!this.pointer) return
    const pointer = this.pointer
    this.pointer = null
    function_(pointer, ...more)
    this.loop.soon()
  }

  ack() { this.answer(c.gw_event_ack) }
  retry() { this.answer(c.gw_event_retry) }
  reject() { this.answer(c.gw_event_reject) }
}

class Bus {
  constructor(loop, pointer) {
    this.loop = loop
    this.pointer = pointer
  }

  // What C calls once.
  once(kind, call) {
    const registered = koffi.register((...more) => {
      setImmediate(() => koffi.unregister(registered))
      call(...more)
    }, koffi.pointer(kind))
    return registered
  }

  // An event is acknowledged when the promise of its handler is kept, and comes again when that is broken.
  on(pattern, handle, settings = {}) {
    const registered = koffi.register(pointer => {
      const event = new Event(pointer)
      event.loop = this.loop
      Promise.resolve().then(() => handle(event)).then(() => event.ack(), error => { console.error(String(error)); event.retry() })
    }, koffi.pointer('gw_event_fn'))
    const handler = c.gw_on(this.pointer, pattern, registered, null, options('gw_handler_options', settings))
    if (!handler) throw new GodwitError(results.GW_E_REFUSED, c.gw_error(this.loop.pointer))
    this.loop.soon()
    return handler
  }

  publish(type, data, settings = {}) {
    const body = Buffer.from(data)
    return new Promise((resolve, reject) => {
      const told = this.once('gw_published_fn', (context, result) => result < 0 ? reject(new GodwitError(result)) : resolve())
      const result = c.gw_publish(this.pointer, type, body, body.length, options('gw_publish_options', settings), told, null)
      if (result < 0) {
        koffi.unregister(told)
        reject(new GodwitError(result, c.gw_error(this.loop.pointer)))
      }
      this.loop.soon()
    })
  }

  close(graceMs = 5000) {
    return new Promise(resolve => {
      c.gw_close(this.pointer, graceMs, this.once('gw_closed_fn', (context, result) => resolve(result)), null)
      this.loop.soon()
    })
  }
}

class Loop {
  constructor() {
    this.pointer = c.gw_loop_new()
    this.due = null
    this.turn = () => {
      this.due = null
      if (c.gw_loop_step(this.pointer) !== 1) return          // nothing is left to wait for: Node may end
      const waitMs = c.gw_loop_timeout_ms(this.pointer)
      this.due = waitMs === 0 ? setImmediate(this.turn) : setTimeout(this.turn, waitMs < 0 ? IDLE_MS : Math.min(waitMs, IDLE_MS))
    }
  }

  // Something was asked for: it is begun in this turn of Node's.
  soon() {
    if (this.due) { clearTimeout(this.due); clearImmediate(this.due) }
    this.due = setImmediate(this.turn)
  }

  made(pointer) {
    if (!pointer) throw new GodwitError(results.GW_E_INVALID, c.gw_error(this.pointer))
    this.soon()
    return new Bus(this, pointer)
  }

  open(directory, settings = {}) { return this.made(c.gw_open(this.pointer, directory, options('gw_open_options', settings))) }
  connect(uri, settings = {}) { return this.made(c.gw_connect(this.pointer, uri, options('gw_connect_options', settings))) }
  bus(where) { return where.startsWith('amqp') ? this.connect(where) : this.open(where) }

  free() {
    clearTimeout(this.due)
    clearImmediate(this.due)
    c.gw_loop_free(this.pointer)
    this.pointer = null
  }
}

module.exports = { Loop, Event, GodwitError, functions: c, structures, results, version: () => c.gw_version() }
