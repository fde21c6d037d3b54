import { FAILURE_REASONS } from '@flotilla/protocol';
import { describe, expect, test } from 'vitest';
import type { ModelState } from '../src/index.ts';
import { type Behaviour, release, World } from './world.ts';

const first = release('labels', 1);
const second = release('labels', 2);

function committedWorld(): World {
  const world = new World();
  world.boot();
  world.want(first);
  world.settle();
  expect(labels(world)).toMatchObject({ phase: { at: 'committed' }, loaded: first.digest });
  return world;
}
const labels = (world: World): ModelState => {
  const model = world.state.models.get('labels');
  if (model === undefined) throw new Error('no such model');
  return model;
};
const statesOf = (world: World): string[] =>
  world.reports.map(({ state }) => state).filter((state, index, all) => state !== all[index - 1]);

test('a first release goes through every state', () => {
  const world = new World();
  world.boot();
  world.want(first);
  world.settle();
  expect(statesOf(world)).toEqual([
    'fetching',
    'downloading',
    'verifying',
    'installing',
    'testing',
    'measuring',
    'switching',
    'trial',
    'committed',
  ]);
  expect(labels(world)).toMatchObject({ active: { slot: 'a', digest: first.digest }, loaded: first.digest });
});

test('a second one goes into the other slot, and the first stays to fall back to', () => {
  const world = committedWorld();
  world.want(second);
  world.settle();
  expect(labels(world)).toMatchObject({
    phase: { at: 'committed' },
    active: { slot: 'b', digest: second.digest },
    fallback: { slot: 'a', digest: first.digest },
  });
});

const refused: [string, Behaviour, string][] = [
  ['a bad signature', { refuse: { at: 'verify', reason: 'pack-signature' } }, 'pack-signature'],
  ['a model that does not load', { refuse: { at: 'install', reason: 'load' } }, 'load'],
  ['a golden mismatch', { refuse: { at: 'test', reason: 'golden-mismatch' } }, 'golden-mismatch'],
  ['a slow model', { p50Us: 101 }, 'latency-budget'],
  ['a full disk', { refuse: { at: 'plan', reason: 'storage-full' } }, 'storage-full'],
  ['a blob damaged twice', { damaged: 2 }, 'pack-digest'],
  ['a plan without end', { hang: 'plan' }, 'download-timeout'],
  ['pieces that never come', { hang: 'ask' }, 'download-timeout'],
  ['a test without end', { hang: 'test' }, 'hung'],
  ['a model that is rebuilt without end', { rebuild: 'works', hang: 'rebuild' }, 'download-timeout'],
];
test.each(refused)('%s is refused before the switch', (_title, behaviour, reason) => {
  const world = committedWorld();
  world.behaviours.set(second.digest, behaviour);
  world.want(second);
  world.settle();
  expect(labels(world)).toMatchObject({
    phase: { at: 'failed', reason },
    active: { slot: 'a', digest: first.digest },
    loaded: first.digest,
  });
  expect(world.reports.at(-1)).toMatchObject({ state: 'failed', reason, loadedDigest: first.digest });
  expect([...world.slots.keys()]).toEqual(['labels/a']);
  expect(world.next.size).toBe(0);
  expect(world.carried.filter((effect) => effect.kind === 'serve')).toHaveLength(1);
});

test('where three packs do not fit, the one before gives way, and the one that serves does not', () => {
  const world = committedWorld();
  world.want(second);
  world.settle();
  const third = release('labels', 3);
  world.behaviours.set(third.digest, { refuse: { at: 'plan', reason: 'storage-full' } });
  world.want(third);
  world.settle();
  expect(labels(world)).toMatchObject({ phase: { at: 'failed', reason: 'storage-full' }, loaded: second.digest });
  expect(world.carried.filter((effect) => effect.kind === 'plan' && effect.release === third)).toHaveLength(2);
  expect([...world.slots]).toEqual([['labels/b', second.digest]]);
});

test('a model that can be rebuilt is not fetched; where that fails it is, and the reason is told', () => {
  for (const rebuild of ['works', 'fails'] as const) {
    const world = committedWorld();
    world.behaviours.set(second.digest, { rebuild });
    const before = world.carried.length;
    world.want(second);
    world.settle();
    const effects = world.carried.slice(before);
    expect(labels(world)).toMatchObject({ phase: { at: 'committed' }, loaded: second.digest });
    expect(effects.filter(({ kind }) => kind === 'rebuild')).toMatchObject([{ timeoutMs: 30_000 }]);
    // The manifest, two pieces of factors, and nine of the model.
    expect(effects.filter(({ kind }) => kind === 'ask')).toHaveLength(rebuild === 'works' ? 3 : 12);
    const told = world.reports.filter(({ detail }) => detail === 'fetched whole: made up');
    expect(told).toMatchObject(rebuild === 'works' ? [] : [{ state: 'downloading', reason: undefined }]);
  }
});

test('a blob damaged once is fetched again', () => {
  const world = committedWorld();
  world.behaviours.set(second.digest, { damaged: 1 });
  world.want(second);
  world.settle();
  expect(labels(world).phase).toEqual({ at: 'committed' });
});

test.each([
  ['crashes', { crash: true }, 'crashed'],
  ['fails its check', { unhealthy: true }, 'golden-mismatch'],
  ['cannot be loaded in time', { hang: 'check' }, 'unhealthy'],
] as [string, Behaviour, string][])('#53 a model that %s on trial is rolled back', (_title, behaviour, reason) => {
  const world = committedWorld();
  world.behaviours.set(second.digest, behaviour);
  world.want(second);
  world.settle();
  expect(labels(world)).toMatchObject({
    phase: { at: 'rolled-back', reason },
    active: { slot: 'a', digest: first.digest },
    loaded: first.digest,
  });
  expect(world.reports.at(-1)).toMatchObject({ state: 'rolled-back', loadedDigest: first.digest });
});

test('#53 a committed model that crashes again and again gives way to the one before', () => {
  const world = committedWorld();
  world.want(second);
  world.settle();
  world.behaviours.set(second.digest, { crash: true });
  world.handle({ kind: 'lost', name: 'labels', digest: second.digest, reason: 'crashed', detail: 'x' });
  world.settle();
  expect(labels(world)).toMatchObject({ phase: { at: 'rolled-back', reason: 'crash-loop' }, loaded: first.digest });
});

test('#52 what would not stay loaded, a damaged slot say, is installed anew when it is wanted again', () => {
  const world = committedWorld();
  world.behaviours.set(first.digest, { crash: true });
  world.handle({ kind: 'lost', name: 'labels', digest: first.digest, reason: 'pack-digest', detail: 'x' });
  world.settle();
  expect(labels(world)).toMatchObject({ phase: { at: 'failed', reason: 'crash-loop' }, loaded: '' });
  world.behaviours.delete(first.digest);
  world.want({ ...first, sequence: 2 });
  world.settle();
  expect(labels(world)).toMatchObject({
    phase: { at: 'committed' },
    active: { slot: 'b', digest: first.digest },
    loaded: first.digest,
  });
});

test('#53 a device that restarts again and again on one step refuses the release', () => {
  for (const hang of ['test', 'check'] as const) {
    const world = committedWorld();
    world.behaviours.set(second.digest, { hang });
    world.want(second);
    while (world.pending.length > 0) world.handle(world.pending.shift() as never);
    let boots = 0;
    for (; labels(world).phase.at !== 'failed' && labels(world).phase.at !== 'rolled-back'; boots++) {
      world.boot();
      while (world.pending.length > 0) world.handle(world.pending.shift() as never);
    }
    expect(boots).toBe(5);
    expect(labels(world)).toMatchObject({ phase: { reason: 'crash-loop' }, loaded: first.digest });
  }
});

test('a restart in every step, once each, is no crash loop', () => {
  const world = committedWorld();
  world.want(second);
  const cut = new Set<string>();
  for (let turn = 0; turn < 500 && labels(world).phase.at !== 'committed'; turn++) {
    const { at } = labels(world).phase;
    if (!cut.has(at)) {
      cut.add(at);
      world.boot();
    }
    const event = world.pending.shift();
    if (event === undefined) world.settle();
    else world.handle(event);
  }
  expect(cut.size).toBeGreaterThan(6);
  expect(labels(world)).toMatchObject({ phase: { at: 'committed' }, loaded: second.digest });
});

describe('#43 #48 desired releases that come again', () => {
  test('the same one changes nothing', () => {
    const world = committedWorld();
    const before = world.state;
    const reports = world.reports.length;
    world.handle({ kind: 'desired', release: { ...first } });
    expect(world.state).toEqual(before);
    expect(world.reports).toHaveLength(reports);
  });
  test.each([
    ['an older one', { ...first, sequence: 1 }],
    ['another under the same number', { ...first, sequence: 2, version: 'x' }],
  ])('%s is refused and told', (_title, replayed) => {
    const world = committedWorld();
    world.want(second);
    world.settle();
    const before = labels(world);
    world.handle({ kind: 'desired', release: replayed });
    expect(labels(world)).toEqual(before);
    expect(world.reports.at(-1)).toMatchObject({ state: 'failed', reason: 'desired-replayed' });
  });
  test('a forged one is told and changes nothing', () => {
    const world = committedWorld();
    const before = world.state;
    world.handle({ kind: 'desired-refused', name: 'labels', sequence: 9, digest: second.digest, detail: 'signature' });
    expect(world.state).toEqual(before);
    expect(world.reports.at(-1)).toMatchObject({ state: 'failed', reason: 'desired-signature', sequence: 9 });
  });
  test('a newer one replaces what is under way, at every point', () => {
    const third = release('labels', 3);
    for (let turns = 0; turns < 60; turns++) {
      const world = committedWorld();
      world.want(second);
      for (let turn = 0; turn < turns && world.pending.length > 0; turn++) world.handle(world.pending.shift() as never);
      world.want(third);
      world.settle();
      expect(labels(world)).toMatchObject({ phase: { at: 'committed' }, loaded: third.digest });
    }
  });
  test('the same release under a new sequence is committed under that, whenever it comes', () => {
    const again = { ...second, sequence: 3 };
    for (let turns = 0; turns < 60; turns++) {
      const world = committedWorld();
      world.want(second);
      for (let turn = 0; turn < turns && world.pending.length > 0; turn++) world.handle(world.pending.shift() as never);
      world.want(again);
      world.settle();
      expect(labels(world)).toMatchObject({ phase: { at: 'committed' }, sequence: 3, loaded: second.digest });
    }
  });
  test('going back to what is loaded needs no work', () => {
    const world = committedWorld();
    world.behaviours.set(second.digest, { hang: 'test' });
    world.want(second);
    while (world.pending.length > 0) world.handle(world.pending.shift() as never);
    world.want({ ...first, sequence: 3 });
    world.settle();
    expect(labels(world)).toMatchObject({ phase: { at: 'committed' }, sequence: 3, loaded: first.digest });
    expect(world.carried.filter((effect) => effect.kind === 'serve')).toHaveLength(1);
  });
});

test('two models are updated one after the other', () => {
  const world = new World();
  world.boot();
  world.want(first);
  world.want(release('commands', 1));
  expect(world.reports.at(-1)).toMatchObject({ name: 'commands', state: 'fetching', waiting: 'other-update' });
  world.settle();
  for (const model of world.state.models.values()) expect(model.phase.at).toBe('committed');
  const order = world.reports.map(({ name }) => name);
  expect(order.lastIndexOf('labels')).toBeLessThan(order.indexOf('commands', order.indexOf('commands') + 1));
});

test('a controller that comes back learns everything', () => {
  const world = committedWorld();
  world.handle({ kind: 'link-down' });
  world.reports.length = 0;
  world.handle({ kind: 'link-up' });
  expect(world.reports).toMatchObject([{ name: 'labels', state: 'committed', loadedDigest: first.digest }]);
});

test('without a link a download waits for as long as it takes', () => {
  const world = committedWorld();
  world.behaviours.set(second.digest, { hang: 'ask' });
  world.want(second);
  while (world.pending.length > 0) world.handle(world.pending.shift() as never);
  world.handle({ kind: 'link-down' });
  expect([...world.timers.keys()]).not.toContain('deadline labels');
  world.behaviours.clear();
  world.handle({ kind: 'link-up' });
  expect([...world.timers.keys()]).toContain('deadline labels');
  world.settle();
  expect(labels(world).phase.at).toBe('committed');
});

test('#50 a disk that takes no record stops the update where the old slot serves', () => {
  for (let turns = 0; turns < 40; turns++) {
    const world = committedWorld();
    world.want(second);
    for (let turn = 0; turn < turns && world.pending.length > 0; turn++) world.handle(world.pending.shift() as never);
    world.diskFull = true;
    for (let turn = 0; turn < 60 && world.pending.length > 0; turn++) world.handle(world.pending.shift() as never);
    world.diskFull = false;
    world.settle();
    world.boot();
    world.settle();
    const { active, loaded, phase } = labels(world);
    expect(['committed', 'failed', 'rolled-back']).toContain(phase.at);
    expect(loaded).toBe(active?.digest);
    expect([first.digest, second.digest]).toContain(loaded);
  }
});

test('every reason that a device can give is one of the closed list', () => {
  for (const [, , reason] of refused) expect(FAILURE_REASONS).toContain(reason);
});
