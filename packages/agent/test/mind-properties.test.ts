import { FAILURE_REASONS } from '@flotilla/protocol';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type AgentEvent, initialState, step } from '../src/index.ts';
import { type Behaviour, digestOf, release, World } from './world.ts';

const zeroth = release('labels', 1);
const first = release('labels', 2);
const second = release('labels', 3);
const behaviour: fc.Arbitrary<Behaviour> = fc.oneof(
  fc.constant({}),
  fc.record({
    refuse: fc.record({
      at: fc.constantFrom('verify' as const, 'install' as const, 'test' as const),
      reason: fc.constantFrom(...FAILURE_REASONS),
    }),
  }),
  fc.record({
    hang: fc.constantFrom('plan', 'ask', 'store', 'verify', 'install', 'test', 'measure', 'check'),
  }) as fc.Arbitrary<Behaviour>,
  fc.record({ p50Us: fc.nat(200), damaged: fc.nat(2) }),
  fc.record({ rebuild: fc.constantFrom('works' as const, 'fails' as const), damaged: fc.nat(2) }),
  fc.constant({ crash: true }),
  fc.constant({ unhealthy: true }),
);

function expectAtRest(world: World): void {
  for (const { name, active, fallback, loaded, phase } of world.state.models.values()) {
    expect(['committed', 'failed', 'rolled-back']).toContain(phase.at);
    expect(loaded).toBe(active?.digest ?? '');
    // The pointer never leads to a slot that holds anything else, in memory or on the disk.
    if (active !== undefined) expect(world.slots.get(`${name}/${active.slot}`)).toBe(active.digest);
    if (fallback !== undefined) expect(world.slots.get(`${name}/${fallback.slot}`)).toBe(fallback.digest);
    expect(world.records.get(name)).toMatchObject({ active, phase });
    if (phase.at === 'committed') expect(active?.digest).toBe(world.desired.get(name)?.digest);
  }
}

test('killed between any two effects of an update, the agent comes up with the old slot or the new one', () => {
  for (const how of [
    {},
    { rebuild: 'fails' },
    { crash: true },
    { p50Us: 500 },
    { refuse: { at: 'test', reason: 'golden-mismatch' } },
  ]) {
    for (let killAfter = 0; ; killAfter++) {
      const world = new World();
      world.behaviours.set(second.digest, how as Behaviour);
      world.boot();
      for (const one of [zeroth, first]) {
        world.want(one);
        world.settle();
      }
      const before = world.carried.length;
      world.killAfter = killAfter;
      world.want(second);
      world.settle();
      expectAtRest(world);
      const [model] = world.state.models.values();
      const goes = Object.keys(how).length === 0 || 'rebuild' in how;
      expect(model?.loaded).toBe(goes ? second.digest : first.digest);
      if (world.killAfter !== undefined) {
        expect(world.carried.length - before).toBeGreaterThan(30);
        break; // it was over before that
      }
    }
  }
});

test('#48 whatever is killed, delivered twice or out of order, every update ends, on a slot that holds what it says', () => {
  const kills = fc.array(fc.nat(60), { maxLength: 4 });
  const picks = fc.infiniteStream(fc.nat(7));
  fc.assert(
    fc.property(
      behaviour,
      behaviour,
      kills,
      picks,
      fc.array(fc.nat(40), { maxLength: 6 }),
      (one, other, killed, pick, twice) => {
        const world = new World();
        world.behaviours.set(second.digest, one);
        const third = release('commands', 1);
        world.behaviours.set(third.digest, other);
        world.boot();
        for (const earlier of [zeroth, first]) {
          world.want(earlier);
          world.settle();
        }
        world.killAfter = killed.shift();
        for (const wanted of [second, third]) world.want(wanted);
        const choose = (count: number): number => {
          const [chance = 0] = [...pick.take(1)];
          if (world.killAfter === undefined) world.killAfter = killed.shift();
          // Now and then an event comes twice.
          if (twice.length > 0 && (twice[0] ?? 0) % 8 === chance) {
            twice.shift();
            world.pending.push(world.pending[chance % count] as AgentEvent);
          }
          return chance % count;
        };
        world.settle(choose);
        world.killAfter = undefined;
        world.boot(); // what the last kill cut off is taken up
        world.settle();
        expectAtRest(world);
      },
    ),
    { numRuns: 400 },
  );
});

const job = { name: fc.constantFrom('labels', 'commands', 'other'), sequence: fc.nat(4) };
const digest = fc.constantFrom(first.digest, second.digest, digestOf('x'));
const piece = fc.record({ digest, offset: fc.constantFrom(0, 100), length: fc.constant(100) });
const reason = fc.constantFrom(...FAILURE_REASONS);
const detail = fc.constant('x');
const anyEvent: fc.Arbitrary<AgentEvent> = fc.oneof(
  fc.record({ kind: fc.constantFrom('link-up', 'link-down') }),
  fc.record({ kind: fc.constant('desired'), release: fc.constantFrom(first, second, release('commands', 1)) }),
  fc.record({ kind: fc.constant('desired-refused'), ...job, digest, detail }),
  fc.record({
    kind: fc.constant('planned'),
    ...job,
    stage: fc.constantFrom('manifest', 'factors', 'blobs'),
    missing: fc.array(piece, { maxLength: 3 }),
    done: fc.nat(10),
    total: fc.constant(1000),
  }),
  fc.record({
    kind: fc.constant('piece-arrived'),
    digest,
    offset: fc.constantFrom(0, 100),
    data: fc.constant(new Uint8Array(100)),
  }),
  fc.record({ kind: fc.constant('piece-stored'), ...job, piece }),
  fc.record({ kind: fc.constant('blob-damaged'), ...job, digest }),
  fc.record({ kind: fc.constant('rebuilt'), ...job, problem: fc.constantFrom(undefined, 'x') }),
  fc.record({ kind: fc.constantFrom('verified', 'installed', 'tested', 'switched'), ...job }),
  fc.record({ kind: fc.constant('measured'), ...job, p50Us: fc.nat(20), budgetUs: fc.constant(10) }),
  fc.record({ kind: fc.constant('refused'), ...job, step: fc.constantFrom('testing', undefined), reason, detail }),
  fc.record({ kind: fc.constant('storage-failed'), ...job, reason: fc.constant('storage-full'), detail }),
  fc.record({ kind: fc.constantFrom('serving', 'checked'), name: job.name, digest }),
  fc.record({ kind: fc.constant('lost'), name: job.name, digest, reason, detail }),
  fc.record({
    kind: fc.constant('timer'),
    ...job,
    timer: fc.constantFrom('deadline', 'retry', 'window', 'check', 'reload'),
    step: fc.constantFrom('fetching', 'testing', 'trial'),
  }),
) as fc.Arbitrary<AgentEvent>;

test('whatever arrives, one update at a time, and the slot that serves is never written to', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 60 }), (events) => {
      let { state } = step(initialState, { kind: 'booted', records: [] });
      for (const event of events) {
        const active = new Map([...state.models].map(([name, model]) => [name, model.active?.slot]));
        const next = step(state, event);
        for (const effect of next.effects) {
          if (effect.kind === 'install') expect(effect.slot).not.toBe(active.get(effect.release.name));
          const slot = effect.kind === 'clean' ? next.state.models.get(effect.name)?.active?.slot : undefined;
          if (effect.kind === 'clean' && slot !== undefined) expect(effect.keep).toContain(slot);
        }
        const busy = [...next.state.models.values()].filter(
          ({ phase }) => !['empty', 'committed', 'failed', 'rolled-back', 'waiting'].includes(phase.at),
        );
        expect(busy.length).toBeLessThanOrEqual(1);
        state = next.state;
      }
    }),
    { numRuns: 1000 },
  );
});

test('a result of another sequence changes nothing', () => {
  const world = new World();
  world.boot();
  world.want(second);
  fc.assert(
    fc.property(anyEvent, fc.nat(30), (event, turns) => {
      if (!('sequence' in event) || event.kind === 'desired-refused') return;
      for (let turn = 0; turn < turns && world.pending.length > 0; turn++)
        world.handle(world.pending.shift() as AgentEvent);
      const stale = { ...event, sequence: 1 } as AgentEvent;
      if (stale.kind === 'timer' && (stale.timer === 'check' || stale.timer === 'reload')) return; // about what serves
      expect(step(world.state, stale)).toEqual({ state: world.state, effects: [] });
    }),
  );
});
