/** Who hears what, with how many arguments, and whether before or after the answer. */
import { join, next, open, outcome, report } from './client.mjs'

await report(async ({ url, appId, transports }) => {
  const [alice, bob, guest] = [1, 2, 3].map(() => open(url, appId, { transports }))
  await join(alice, 'alice')
  await join(bob, 'bob')
  await guest.service('board').find() // public: connected now, and not logged in
  for (const { heard } of [alice, bob, guest]) heard.length = 0

  const order = []
  const notes = alice.service('notes')
  for (const event of ['created', 'updated', 'patched', 'removed']) notes.on(event, () => order.push(event))
  const { _id } = await notes.create({ text: 'one' })
  order.push('create answered')
  await notes.update(_id, { text: 'two' })
  order.push('update answered')
  await notes.patch(_id, { text: 'three' }, { query: { $select: ['_id'] } })
  order.push('patch answered')
  await notes.remove(_id)
  order.push('remove answered')
  await notes.create([{ text: 'a' }, { text: 'b' }])
  await outcome(notes.create({ n: 'no text' })) // a failure is no event
  await notes.find()

  await alice.client.logout()
  const last = [next(bob.socket, 'board created'), next(guest.socket, 'board created')]
  await bob.service('notes').create({ text: 'after logout' })
  await bob.service('board').create({ text: 'for all' })
  await Promise.all(last) // events keep their order: whatever was to be heard before this one has been
  await alice.service('board').find()
  return { order, alice: alice.heard, bob: bob.heard, guest: guest.heard }
})
