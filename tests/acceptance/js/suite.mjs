/** Runs tests that are written for mocha, one after the other, and returns what became of each. */

/** The outcome of `{passed, skipped, failed}` by name; `define` calls `describe` and `it` as mocha has them. */
export async function run (define) {
  const root = new Block()
  let block = root
  globalThis.describe = (title, body) => {
    const outer = block
    block = new Block(outer)
    outer.parts.push(block)
    body.call(block)
    block = outer
  }
  globalThis.it = (name, body) => block.parts.push({ name, body })
  globalThis.it.skip = (name) => block.parts.push({ name })
  for (const kind of Object.keys(block.hooks)) globalThis[kind] = (hook) => block.hooks[kind].push(hook)
  define()
  const found = { passed: [], skipped: [], failed: {} }
  await root.run(found)
  return found
}

class Block {
  parts = []
  hooks = { before: [], beforeEach: [], afterEach: [], after: [] }

  constructor (outer) {
    this.outer = outer
  }

  async run (found) {
    await call(this.hooks.before)
    for (const part of this.parts) {
      if (part instanceof Block) await part.run(found)
      else if (!part.body) found.skipped.push(part.name)
      else await this.test(part, found)
    }
    await call(this.hooks.after)
  }

  async test ({ name, body }, found) {
    try {
      await call(this.all('beforeEach'))
      try {
        await body()
      } finally {
        await call(this.all('afterEach').reverse())
      }
      found.passed.push(name)
    } catch (error) {
      found.failed[name] = error.stack
    }
  }

  /** The hooks around each test of this block, the outermost first. */
  all (kind) {
    return [...(this.outer?.all(kind) ?? []), ...this.hooks[kind]]
  }
}

async function call (hooks) {
  for (const hook of hooks) await hook()
}
