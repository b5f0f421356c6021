// examples/node, which is libgodwit by way of npm's koffi: embedded, at a broker, and laid out as the compiler has it.
const assert = require('assert')
const { execFileSync, spawnSync } = require('child_process')
const fs = require('fs')
const koffi = require('koffi')
const os = require('os')
const path = require('path')

const examples = path.join(process.env.ROOT, 'examples', 'node')
const place = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-node-'))
const stories = {}

function orders(where) {
  const done = spawnSync(process.execPath, [path.join(examples, 'orders.js'), where], { cwd: place, encoding: 'utf8', timeout: 20000 })
  assert.strictEqual(done.status, 0, done.stdout + done.stderr)
  const lines = done.stdout.trim().split('\n')
  assert.deepStrictEqual(lines.slice(0, -1).sort(), ['durable', 'order.created 1, attempt 1', 'order.created 2, attempt 1', 'order.created 2, attempt 2', 'order.created 3, attempt 1'])
  assert.strictEqual(lines.at(-1), 'closed: 0')
}

stories.embedded = () => orders(path.join(place, 'orders.gw'))
stories['at-a-broker'] = () => orders(process.env.AMQP_URL)

// V8 and koffi (whose callbacks have stacks of their own) are not for valgrind to judge; what it says of the library is.
stories['under-valgrind'] = () => {
  if (spawnSync('valgrind', ['--version']).error) return
  const done = spawnSync('valgrind', ['--quiet', '--leak-check=full', '--show-leak-kinds=definite', '--num-callers=30', process.execPath, '--jitless', '--single-threaded',
    path.join(examples, 'orders.js'), path.join(place, 'valgrind.gw')], { cwd: place, encoding: 'utf8', timeout: 120000 })
  assert.strictEqual(done.status, 0, done.stdout + done.stderr)
  assert.ok(done.stdout.trim().endsWith('closed: 0'), done.stdout)
  assert.ok(!/libgodwit\.so/.test(done.stderr), done.stderr)
}

stories.layouts = () => {
  const { structures } = require(path.join(examples, 'godwit.js'))
  const lines = Object.entries(structures).flatMap(([name, type]) => [`printf("${name} %zu\\n", sizeof(${name}));`,
    ...Object.keys(koffi.introspect ? koffi.introspect(type).members : type.members).map(member => `printf("${name}.${member} %zu\\n", offsetof(${name}, ${member}));`)])
  const source = path.join(place, 'layout.c')
  fs.writeFileSync(source, `#include "${process.env.GODWIT_HEADER}"\n#include <stdio.h>\nint main(void) { ${lines.join(' ')} return 0; }\n`)
  execFileSync('cc', ['-o', path.join(place, 'layout'), source])
  const told = Object.fromEntries(execFileSync(path.join(place, 'layout'), { encoding: 'utf8' }).trim().split('\n').map(line => line.split(' ')))
  const ours = Object.fromEntries(Object.entries(structures).flatMap(([name, type]) => [[name, String(koffi.sizeof(type))],
    ...Object.keys(koffi.introspect ? koffi.introspect(type).members : type.members).map(member => [`${name}.${member}`, String(koffi.offsetof(type, member))])]))
  assert.deepStrictEqual(ours, told)
  assert.ok(Object.keys(told).length > 60)
}

for (const name of Object.keys(stories)) {
  if (process.argv.length > 2 && !process.argv.includes(name)) continue
  try {
    stories[name]()
    console.log(`ok ${name}`)
  } catch (error) {
    const lines = [...(error.stack || '').matchAll(/stories\.js:(\d+)/g)].map(found => found[1]).reverse()
    console.log(`FAILED ${name}: line ${lines.join(' > ')}: ${String(error).split(/\s+/).join(' ')}`)
  }
}
fs.rmSync(place, { recursive: true })
