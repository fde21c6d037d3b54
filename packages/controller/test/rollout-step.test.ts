import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  describeWhy,
  isActive,
  planRollout,
  type ReleaseRef,
  type Rollout,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutReport,
  stepRollout,
} from '../src/index.ts';

const digestA = `sha256:${'a'.repeat(64)}`;
const digestB = `sha256:${'b'.repeat(64)}`;
const release: ReleaseRef = { name: 'labels', version: '2.0.0', digest: digestB };
const previous: ReleaseRef = { name: 'labels', version: '1.0.0', digest: digestA };
const deadlineMs = 10_000;

function plan(
  devices: number,
  options: { canary?: number; previous?: ReleaseRef | null; online?: boolean } = {},
): Rollout {
  const candidates = Array.from({ length: devices }, (_, index) => ({
    device: `d${index}`,
    online: options.online ?? true,
    sequence: 4,
    previous: options.previous === undefined ? previous : options.previous,
  }));
  return planRollout(
    { id: 'r-1', release, canary: options.canary ?? 1, healthWindowMs: 5000, stateDeadlineMs: deadlineMs },
    candidates,
    0,
  );
}

/** Drives a rollout and keeps what it asked for. */
class Drive {
  state: Rollout;
  readonly effects: RolloutEffect[] = [];
  private counter = 0;

  constructor(state: Rollout) {
    this.state = state;
    this.feed({ kind: 'started', atMs: 0 });
  }

  feed(event: RolloutEvent): this {
    const { state, effects } = stepRollout(this.state, event);
    this.state = state;
    this.effects.push(...effects);
    return this;
  }

  report(device: string, report: Partial<RolloutReport>, atMs = 0): this {
    const full: RolloutReport = {
      session: 1,
      counter: ++this.counter,
      state: 'fetching',
      sequence: this.device(device).sequence,
      loadedDigest: digestA,
      reason: undefined,
      detail: '',
      waiting: undefined,
      bytesDone: 0,
      bytesTotal: 0,
      ...report,
    };
    return this.feed({ kind: 'reported', atMs, device, report: full });
  }

  commit(device: string): this {
    return this.report(device, { state: 'committed', loadedDigest: digestB });
  }

  device(id: string) {
    const device = this.state.devices.get(id);
    if (device === undefined) throw new Error(`no ${id}`);
    return device;
  }

  ids(role: 'canary' | 'rest'): string[] {
    return [...this.state.devices.values()].filter((device) => device.role === role).map(({ device }) => device);
  }
}

describe('waves', () => {
  test('only the canary is told at first; all others once it has committed; done when all have', () => {
    const drive = new Drive(plan(3));
    const [canary = ''] = drive.ids('canary');
    expect(drive.effects).toEqual([{ kind: 'desire', device: canary, sequence: 5, release }]);
    drive.commit(canary);
    expect(drive.state.phase).toBe('rest');
    expect(drive.effects).toHaveLength(3);
    for (const device of drive.ids('rest')) drive.commit(device);
    expect(drive.state).toMatchObject({ phase: 'done', endedAtMs: 0 });
    expect(drive.effects).toHaveLength(3);
  });

  test.each([
    [0, 4],
    [1, 1],
    [3, 3],
    [9, 4],
  ])('%i canaries of 4: %i are told at once', (canary, told) => {
    expect(new Drive(plan(4, { canary })).effects).toHaveLength(told);
  });

  test('the choice of canaries is the same every time, differs by rollout, and prefers who is online', () => {
    const candidates = Array.from({ length: 20 }, (_, index) => ({
      device: `d${index}`,
      online: index % 2 === 1,
      sequence: 0,
      previous,
    }));
    const options = { release, canary: 3, healthWindowMs: 1, stateDeadlineMs: 1000 };
    const canaries = (id: string) =>
      [...planRollout({ id, ...options }, candidates, 0).devices.values()].filter(({ role }) => role === 'canary');
    expect(canaries('r-1')).toEqual(canaries('r-1'));
    expect(canaries('r-1').every(({ online }) => online)).toBe(true);
    expect(new Set(['r-1', 'r-2', 'r-3', 'r-4'].map((id) => JSON.stringify(canaries(id)))).size).toBeGreaterThan(1);
  });
});

describe('a device that is removed', () => {
  test('the rollout goes on without it, and nothing is sent to it', () => {
    const drive = new Drive(plan(3));
    const [canary = ''] = drive.ids('canary');
    drive.commit(canary);
    const [gone = '', stays = ''] = drive.ids('rest');
    const sent = drive.effects.length;
    drive.feed({ kind: 'removed', atMs: 5, device: gone }).feed({ kind: 'removed', atMs: 6, device: gone });
    expect(drive.device(gone)).toMatchObject({ status: 'failed', why: 'removed', acknowledged: true, sinceMs: 5 });
    expect(describeWhy(drive.device(gone))).toBe('was removed from the fleet');
    expect(drive.effects).toHaveLength(sent);
    drive.feed({ kind: 'removed', atMs: 7, device: canary });
    expect(drive.device(canary).status).toBe('done');
    expect(drive.commit(stays).state.phase).toBe('done');
  });

  test('a canary has a successor; without any the rollout has nothing to do', () => {
    const drive = new Drive(plan(3));
    const [first = ''] = drive.ids('canary');
    drive.feed({ kind: 'removed', atMs: 5, device: first });
    const [, second = ''] = drive.ids('canary');
    expect(drive.state.phase).toBe('canary');
    expect(drive.effects.map(({ device }) => device)).toEqual([first, second]);
    for (const id of ['d0', 'd1', 'd2']) drive.feed({ kind: 'removed', atMs: 6, device: id });
    expect(drive.state).toMatchObject({ phase: 'stopped', endedAtMs: 6 });
  });
});

describe('what counts as success', () => {
  test.each<[string, Partial<RolloutReport>, string]>([
    ['committed with the digest loaded', { state: 'committed', loadedDigest: digestB }, 'done'],
    ['committed with another digest loaded', { state: 'committed', loadedDigest: digestA }, 'offered'],
    ['the digest loaded, still on trial', { state: 'trial', loadedDigest: digestB }, 'offered'],
    ['committed, about an older sequence', { state: 'committed', loadedDigest: digestB, sequence: 4 }, 'offered'],
    ['failed, about an older sequence', { state: 'failed', sequence: 4 }, 'offered'],
    ['a counter that is not newer', { state: 'committed', loadedDigest: digestB, session: 0 }, 'offered'],
  ])('%s', (_, report, status) => {
    const drive = new Drive(plan(1)).report('d0', { state: 'fetching' });
    expect(drive.report('d0', report).device('d0').status).toBe(status);
  });

  test('#48 duplicates and late reports change nothing', () => {
    const drive = new Drive(plan(2, { canary: 2 }));
    drive.report('d0', { state: 'testing', counter: 10 });
    const before = drive.state;
    drive.report('d0', { state: 'testing', counter: 10 }).report('d0', { state: 'failed', counter: 9 });
    expect(drive.state).toBe(before);
  });

  test('a device that takes a committed release back while the rollout runs has failed', () => {
    const drive = new Drive(plan(3));
    const [canary = ''] = drive.ids('canary');
    drive.commit(canary).report(canary, { state: 'rolled-back', reason: 'crash-loop' });
    expect(drive.state.phase).toBe('stopped');
    expect(drive.device(canary)).toMatchObject({ status: 'failed', why: 'rolled-back', failure: 'crash-loop' });
  });
});

describe('stopping', () => {
  test.each([
    ['failed', 'refused'],
    ['rolled-back', 'rolled-back'],
  ] as const)('the first one that is %s stops it: others untouched, it goes back to what it had', (state, why) => {
    const drive = new Drive(plan(3));
    const [canary = ''] = drive.ids('canary');
    drive.report(canary, { state, reason: 'golden-mismatch', detail: 'case 2' }, 7);
    expect(drive.state).toMatchObject({ phase: 'stopped', endedAtMs: 7 });
    expect(drive.device(canary)).toMatchObject({ status: 'failed', why, sinceMs: 7 });
    expect(drive.effects.slice(1)).toEqual([{ kind: 'desire', device: canary, sequence: 6, release: previous }]);
    for (const device of drive.ids('rest'))
      expect(drive.device(device)).toMatchObject({ status: 'untouched', why: 'rollout-stopped', sequence: 4 });
    expect(describeWhy(drive.device(canary))).toContain(
      'the model does not give the expected outputs on this device (case 2)',
    );
  });

  test('in the second wave: who has committed keeps it, who is under way is called back', () => {
    const drive = new Drive(plan(4));
    const [canary = ''] = drive.ids('canary');
    const [one = '', two = '', three = ''] = drive.ids('rest');
    drive
      .commit(canary)
      .commit(one)
      .report(two, { state: 'testing' })
      .report(three, { state: 'failed', reason: 'load' });
    expect(drive.state.phase).toBe('stopped');
    const statuses = [canary, one, two, three].map((device) => drive.device(device).status);
    expect(statuses).toEqual(['done', 'done', 'taken-back', 'failed']);
    const back = drive.effects.slice(4).map((effect) => effect.device);
    expect(back.sort()).toEqual([two, three].sort());
  });

  test.each<[string, ReleaseRef | null]>([
    ['had nothing', null],
    ['had this very release', release],
  ])('a device that %s is not told to go back to anything: its document is withdrawn', (_, before) => {
    const drive = new Drive(plan(1, { previous: before })).report('d0', { state: 'failed', reason: 'load' });
    expect(drive.effects.at(-1)).toEqual({ kind: 'withdraw', device: 'd0', sequence: 6 });
  });

  test('abort calls back who is under way and leaves the rest alone; nothing moves it afterwards', () => {
    const drive = new Drive(plan(3)).feed({ kind: 'aborted', atMs: 3 });
    const [canary = ''] = drive.ids('canary');
    expect(drive.device(canary)).toMatchObject({ status: 'taken-back', why: 'rollout-aborted' });
    const ended = drive.state;
    drive.commit(canary).feed({ kind: 'tick', atMs: 1e12 }).feed({ kind: 'aborted', atMs: 9 });
    expect(drive.state).toBe(ended);
  });
});

describe('deadlines', () => {
  const late = deadlineMs * 1.1;

  test('a device that never answers fails after one state deadline and its grace', () => {
    const drive = new Drive(plan(2, { online: false })).feed({ kind: 'tick', atMs: late - 1 });
    expect(drive.state.phase).toBe('canary');
    drive.feed({ kind: 'tick', atMs: late });
    expect(drive.state.phase).toBe('stopped');
    expect(drive.device(drive.ids('canary')[0] ?? '')).toMatchObject({ why: 'deadline', detail: 'never came online' });
  });

  test('each new state has its own deadline; the trial has the health window on top', () => {
    const drive = new Drive(plan(1))
      .report('d0', { state: 'downloading' }, 9000)
      .feed({ kind: 'tick', atMs: 9000 + late - 1 });
    expect(drive.state.phase).toBe('canary');
    drive.report('d0', { state: 'trial' }, 15_000).feed({ kind: 'tick', atMs: 15_000 + 5000 + late - 1 });
    expect(drive.state.phase).toBe('canary');
    drive.feed({ kind: 'tick', atMs: 15_000 + 5000 + late });
    expect(drive.device('d0')).toMatchObject({ why: 'deadline', detail: 'stayed too long in state trial' });
  });

  test('progress inside a state does not prolong it, and neither does going back and forth for ever', () => {
    const slow = new Drive(plan(1));
    for (let atMs = 0; atMs <= late; atMs += 500)
      slow.report('d0', { state: 'downloading', bytesDone: atMs }, atMs).feed({ kind: 'tick', atMs });
    expect(slow.state.phase).toBe('stopped');
    const restless = new Drive(plan(1));
    let atMs = 0;
    for (; isActive(restless.state.phase) && atMs < 1e7; atMs += 4000)
      restless
        .report('d0', { state: atMs % 8000 === 0 ? 'downloading' : 'verifying' }, atMs)
        .feed({ kind: 'tick', atMs });
    expect(atMs).toBeLessThan(14 * deadlineMs);
  });

  test('while the controller was away no deadline ran', () => {
    const drive = new Drive(plan(1)).report('d0', { state: 'downloading' }, 1000);
    drive.feed({ kind: 'restarted', atMs: 1e9, online: new Set() }).feed({ kind: 'tick', atMs: 1e9 + late - 1 });
    expect(drive.state.phase).toBe('canary');
    expect(drive.device('d0')).toMatchObject({ why: 'offline', online: false });
    drive.feed({ kind: 'tick', atMs: 1e9 + late });
    expect(drive.state.phase).toBe('stopped');
  });
});

describe('paused', () => {
  const late = deadlineMs * 1.1;
  const paused = (devices = 3) => {
    const drive = new Drive(plan(devices));
    const [canary = ''] = drive.ids('canary');
    return { drive: drive.feed({ kind: 'paused', atMs: 100 }), canary };
  };

  test('nobody new is told until it is resumed; who is under way goes on', () => {
    const { drive, canary } = paused();
    for (const device of drive.ids('rest')) expect(drive.device(device)).toMatchObject({ why: 'paused', sinceMs: 100 });
    drive.commit(canary);
    expect(drive.state).toMatchObject({ phase: 'canary', pausedAtMs: 100 });
    expect(drive.effects).toHaveLength(1);
    drive.feed({ kind: 'resumed', atMs: 200 });
    expect(drive.state).toMatchObject({ phase: 'rest', pausedAtMs: null });
    expect(drive.effects).toHaveLength(3);
  });

  test('no deadline runs, whether it began before or meanwhile; what was left of it is left', () => {
    const { drive, canary } = paused();
    drive.report(canary, { state: 'downloading' }, 5e6).feed({ kind: 'restarted', atMs: 6e6, online: new Set() });
    drive.feed({ kind: 'tick', atMs: 1e9 }).feed({ kind: 'resumed', atMs: 1e9 });
    drive.feed({ kind: 'tick', atMs: 1e9 + late - 1 });
    expect(drive.state.phase).toBe('canary');
    drive.feed({ kind: 'tick', atMs: 1e9 + late });
    expect(drive.state.phase).toBe('stopped');
    const early = new Drive(plan(1)).feed({ kind: 'paused', atMs: late - 10 }).feed({ kind: 'resumed', atMs: 1e6 });
    expect(early.feed({ kind: 'tick', atMs: 1e6 + 9 }).state.phase).toBe('canary');
    expect(early.feed({ kind: 'tick', atMs: 1e6 + 10 }).state.phase).toBe('stopped');
  });

  test('resuming acknowledges the failures so far: those go back once, the others go on; a new one stops it', () => {
    const { drive, canary } = paused();
    drive.report(canary, { state: 'failed', reason: 'load' }, 150);
    expect(drive.state).toMatchObject({ phase: 'canary', pausedAtMs: 100 });
    expect(drive.effects).toHaveLength(1);
    drive.feed({ kind: 'resumed', atMs: 200 }).feed({ kind: 'resumed', atMs: 201 });
    expect(drive.device(canary)).toMatchObject({ status: 'failed', acknowledged: true, sequence: 6 });
    expect(drive.effects[1]).toEqual({ kind: 'desire', device: canary, sequence: 6, release: previous });
    expect(drive.state.phase).toBe('rest');
    const [one = '', two = ''] = drive.ids('rest');
    drive.commit(one);
    const stopped = new Drive(drive.state).report(two, { state: 'failed', reason: 'load' });
    expect(stopped.state.phase).toBe('stopped');
    expect(stopped.effects.map(({ device }) => device)).toEqual([two]);
    expect(drive.commit(two).state.phase).toBe('done');
  });

  test('where all have failed and nobody is left, it has stopped, not succeeded', () => {
    const drive = new Drive(plan(1)).feed({ kind: 'paused', atMs: 1 }).report('d0', { state: 'failed' }, 2);
    expect(drive.feed({ kind: 'resumed', atMs: 3 }).state).toMatchObject({ phase: 'stopped', endedAtMs: 3 });
  });

  test('abort wins: paused or not, who is under way or has failed is called back', () => {
    const { drive, canary } = paused(2);
    drive.report(canary, { state: 'failed', reason: 'load' }).feed({ kind: 'aborted', atMs: 300 });
    expect(drive.state).toMatchObject({ phase: 'aborted', pausedAtMs: null });
    expect(drive.effects.at(-1)).toMatchObject({ kind: 'desire', device: canary, release: previous });
    const ended = drive.state;
    expect(drive.feed({ kind: 'resumed', atMs: 301 }).feed({ kind: 'paused', atMs: 302 }).state).toBe(ended);
  });
});

describe('why a device is not done, and since when', () => {
  test('follows presence and reports', () => {
    const drive = new Drive(plan(1, { online: false }));
    const seen = () => [drive.device('d0').why, drive.device('d0').sinceMs];
    expect(seen()).toEqual(['offline', 0]);
    drive.feed({ kind: 'presence', device: 'd0', online: true, atMs: 1 });
    expect(seen()).toEqual(['unanswered', 1]);
    drive.report('d0', { state: 'downloading' }, 2);
    expect(seen()).toEqual(['updating', 2]);
    drive
      .report('d0', { state: 'downloading', waiting: 'chunk' }, 3)
      .report('d0', { state: 'downloading', waiting: 'chunk', bytesDone: 9 }, 4);
    expect(seen()).toEqual(['chunk', 3]);
    drive.feed({ kind: 'presence', device: 'd0', online: false, atMs: 5 });
    expect(seen()).toEqual(['offline', 5]);
    drive.report('d0', { state: 'committed', loadedDigest: digestA }, 6);
    expect(seen()).toEqual(['wrong-digest', 6]);
    drive.report('d0', { state: 'committed', loadedDigest: digestB }, 7);
    expect(seen()).toEqual([null, 7]);
  });
});

describe('whatever happens', () => {
  const states = ['fetching', 'downloading', 'testing', 'trial', 'committed', 'failed', 'rolled-back'] as const;
  const device = fc.integer({ min: 0, max: 4 }).map((index) => `d${index}`);
  const event = fc.oneof(
    fc.record({ kind: fc.constant('presence' as const), device, online: fc.boolean() }),
    fc.record({
      kind: fc.constant('reported' as const),
      device,
      state: fc.constantFrom(...states),
      sequence: fc.integer({ min: 4, max: 6 }),
      counter: fc.integer({ min: 1, max: 50 }),
      loadedDigest: fc.constantFrom(digestA, digestB),
    }),
    fc.record({ kind: fc.constant('removed' as const), device }),
    fc.record({ kind: fc.constant('tick' as const) }),
    fc.record({ kind: fc.constant('restarted' as const) }),
    fc.record({ kind: fc.constant('paused' as const) }),
    fc.record({ kind: fc.constant('resumed' as const) }),
    fc.record({ kind: fc.constant('aborted' as const) }),
  );
  const history = fc.array(fc.tuple(event, fc.integer({ min: 0, max: 5000 })), { maxLength: 80 });

  function toEvent(one: typeof event extends fc.Arbitrary<infer T> ? T : never, atMs: number): RolloutEvent {
    if (one.kind === 'restarted') return { kind: 'restarted', atMs, online: new Set(['d1']) };
    if (one.kind !== 'reported') return { ...one, atMs };
    const { state, sequence, counter, loadedDigest } = one;
    const report = {
      session: 1,
      counter,
      state,
      sequence,
      loadedDigest,
      reason: undefined,
      detail: '',
      waiting: undefined,
    };
    return { kind: 'reported', atMs, device: one.device, report: { ...report, bytesDone: 0, bytesTotal: 0 } };
  }

  test('it ends in bounded time, tells nobody twice, keeps to the waves, and never counts a lie', () => {
    fc.assert(
      fc.property(history, fc.integer({ min: 0, max: 5 }), (events, canary) => {
        const drive = new Drive(plan(5, { canary }));
        const canaries = new Set(drive.ids('canary'));
        let atMs = 0;
        for (const [one, pause] of events) {
          atMs += pause;
          const before = drive.state;
          const given = toEvent(one, atMs);
          const told = drive.effects.length;
          drive.feed(given);
          const once = drive.state;
          // The same event again, as MQTT and a restart may bring it, changes nothing.
          if (given.kind !== 'restarted') expect(drive.feed(given).state).toEqual(once);
          if (!isActive(before.phase)) expect(drive.effects.length).toBe(told);
          for (const after of once.devices.values()) {
            if (after.status !== 'done' || before.devices.get(after.device)?.status === 'done') continue;
            expect(given).toMatchObject({
              report: { state: 'committed', loadedDigest: digestB, sequence: after.sequence },
            });
          }
        }
        drive.feed({ kind: 'resumed', atMs });
        for (; isActive(drive.state.phase); atMs += 1000) {
          drive.feed({ kind: 'tick', atMs });
          expect(atMs).toBeLessThan(80 * 5000 + 15 * deadlineMs);
        }
        const given = new Map<string, number>();
        let canariesDone = canaries.size === 0;
        for (const effect of drive.effects) {
          expect(effect.sequence).toBe((given.get(effect.device) ?? 4) + 1);
          given.set(effect.device, effect.sequence);
          if (effect.kind === 'desire' && effect.release === release && !canaries.has(effect.device))
            canariesDone = true;
        }
        for (const one of drive.state.devices.values()) {
          expect(one.sequence).toBe(given.get(one.device) ?? 4);
          if (one.status === 'untouched') expect(given.has(one.device)).toBe(false);
          expect(one.why === null).toBe(one.status === 'done');
        }
        if (drive.state.phase === 'done') expect(canariesDone || canaries.size === 5).toBe(true);
      }),
      { numRuns: 400, seed: 7 },
    );
  });
});
