import type { DesiredRelease, FailureReason } from '@flotilla/protocol';
import {
  type AgentEvent,
  type AgentState,
  type Effect,
  initialState,
  type ModelRecord,
  type Piece,
  type ReportBody,
  step,
} from '../src/index.ts';

export const digestOf = (text: string): string =>
  `sha256:${Array.from({ length: 64 }, (_, i) => ((text.charCodeAt(i % text.length) * 7 + i) & 15).toString(16)).join('')}`;

export function release(name: string, sequence: number, content = `${name}-${sequence}`): DesiredRelease {
  return {
    device: 'pi-1',
    name,
    sequence,
    digest: digestOf(content),
    manifestBytes: 100,
    totalBytes: 1000,
    version: `${sequence}.0.0`,
    healthWindowMs: 1000,
    stateDeadlineMs: 60_000,
  };
}

/** How a pack behaves on this device. Nothing set: well. */
export interface Behaviour {
  readonly refuse?: { readonly at: 'verify' | 'install' | 'test' | 'plan'; readonly reason: FailureReason } | undefined;
  /** This work never ends. */
  readonly hang?: Effect['kind'] | undefined;
  readonly p50Us?: number | undefined;
  /** Serving it ends it. */
  readonly crash?: boolean | undefined;
  /** Its first check on trial fails. */
  readonly unhealthy?: boolean | undefined;
  /** The pack offers to be rebuilt, and how that ends. */
  readonly rebuild?: 'works' | 'fails' | undefined;
  /** Blobs come out damaged so many times. */
  readonly damaged?: number | undefined;
}

/** A device in memory: what `kill` leaves is what a disk would hold. */
export class World {
  // Durable.
  readonly records = new Map<string, ModelRecord>();
  readonly slots = new Map<string, string>();
  readonly next = new Map<string, Map<string, Set<number>>>();
  readonly desired = new Map<string, DesiredRelease>();
  readonly behaviours = new Map<string, Behaviour>();
  // Volatile.
  state: AgentState = initialState;
  pending: AgentEvent[] = [];
  timers = new Map<string, { readonly at: number; readonly event: AgentEvent }>();
  nowMs = 0;
  readonly reports: ReportBody[] = [];
  readonly carried: Effect[] = [];
  /** Effects until the agent dies; undefined: it lives. */
  killAfter: number | undefined;
  diskFull = false;
  private damage = new Map<string, number>();

  boot(): void {
    this.state = initialState;
    this.pending = [];
    this.timers.clear();
    const events: AgentEvent[] = [
      { kind: 'booted', records: [...this.records.values()] },
      { kind: 'link-up' },
      ...[...this.desired.values()].map((one) => ({ kind: 'desired', release: one }) as const),
    ];
    if (events.some((event) => this.handle(event) === 'killed')) this.boot();
  }

  want(one: DesiredRelease): void {
    this.desired.set(one.name, one);
    if (this.handle({ kind: 'desired', release: one }) === 'killed') this.boot();
  }

  /** @returns 'killed' if the agent died on the way; what it was doing is lost */
  handle(event: AgentEvent): 'alive' | 'killed' {
    const { state, effects } = step(this.state, event);
    this.state = state;
    for (const effect of effects) {
      if (this.killAfter === 0) {
        this.killAfter = undefined;
        return 'killed';
      }
      if (this.killAfter !== undefined) this.killAfter--;
      this.carried.push(effect);
      if (!this.carryOut(effect)) return 'alive';
    }
    return 'alive';
  }

  /** Events and timers until nothing is left to happen but checks of what is committed. */
  settle(pick: (count: number) => number = () => 0, limit = 5000): void {
    for (let turn = 0; turn < limit; turn++) {
      const event = this.nextEvent(pick);
      if (event === undefined) return;
      if (this.handle(event) === 'killed') this.boot();
    }
    throw new Error('the agent does not come to rest');
  }

  private nextEvent(pick: (count: number) => number): AgentEvent | undefined {
    if (this.pending.length > 0) return this.pending.splice(pick(this.pending.length), 1)[0];
    const due = [...this.timers].sort(([, one], [, other]) => one.at - other.at);
    const [key, timer] = due.find(([name]) => !name.startsWith('check ') || this.updating()) ?? [];
    if (key === undefined || timer === undefined) return undefined;
    this.timers.delete(key);
    this.nowMs = timer.at;
    return timer.event;
  }

  private updating(): boolean {
    return [...this.state.models.values()].some(
      ({ phase }) => !['empty', 'committed', 'failed', 'rolled-back'].includes(phase.at),
    );
  }

  /** @returns false where the rest of the list is dropped */
  private carryOut(effect: Effect): boolean {
    switch (effect.kind) {
      case 'save':
      case 'switch': {
        const { name, sequence } = effect.record;
        if (this.diskFull) {
          this.pending.push({ kind: 'storage-failed', name, sequence, reason: 'storage-full', detail: 'full' });
          return false;
        }
        this.records.set(name, effect.record);
        if (effect.kind === 'switch') this.pending.push({ kind: 'switched', name, sequence });
        return true;
      }
      case 'clean':
        this.next.delete(effect.name);
        for (const slot of ['a', 'b'] as const)
          if (!effect.keep.includes(slot)) this.slots.delete(`${effect.name}/${slot}`);
        return true;
      case 'drop-slot':
        this.slots.delete(`${effect.name}/${effect.slot}`);
        return true;
      case 'start-timer': {
        const { timer, name, sequence, step: at, ms } = effect;
        const event: AgentEvent = { kind: 'timer', timer, name, sequence, step: at };
        this.timers.set(`${timer} ${name}`, { at: this.nowMs + ms, event });
        return true;
      }
      case 'stop-timers':
        for (const timer of effect.timers) this.timers.delete(`${timer} ${effect.name}`);
        return true;
      case 'report':
        this.reports.push(effect);
        return true;
      case 'cancel':
        return true;
      default: {
        const event = this.work(effect);
        if (event !== undefined) this.pending.push(event);
        return true;
      }
    }
  }

  private work(effect: Effect): AgentEvent | undefined {
    const name = 'release' in effect ? effect.release.name : 'name' in effect ? effect.name : '';
    const sequence = 'release' in effect ? effect.release.sequence : 'sequence' in effect ? effect.sequence : 0;
    const digest = 'release' in effect ? effect.release.digest : this.state.models.get(name)?.release?.digest;
    const behaviour = this.behaviours.get(digest ?? '') ?? {};
    if (behaviour.hang === effect.kind) return undefined;
    if (behaviour.refuse?.at === effect.kind)
      return { kind: 'refused', name, sequence, step: undefined, reason: behaviour.refuse.reason, detail: 'made up' };
    switch (effect.kind) {
      case 'plan':
        return this.plan(effect.release);
      case 'ask':
        return { kind: 'piece-arrived', ...effect.piece, data: new Uint8Array(effect.piece.length) };
      case 'store':
        return this.store(name, sequence, effect.piece, behaviour.damaged ?? 0);
      case 'rebuild':
        return this.rebuild(effect.release, behaviour.rebuild);
      case 'verify':
        return { kind: 'verified', name, sequence };
      case 'install':
        this.slots.set(`${name}/${effect.slot}`, effect.release.digest);
        this.next.delete(name);
        return { kind: 'installed', name, sequence };
      case 'test':
        return { kind: 'tested', name, sequence };
      case 'measure':
        return { kind: 'measured', name, sequence, p50Us: behaviour.p50Us ?? 10, budgetUs: 100 };
      case 'serve':
        return this.serve(effect.name, effect.slot, effect.digest);
      case 'check':
        if (this.behaviours.get(effect.digest)?.unhealthy !== true)
          return { kind: 'checked', name, digest: effect.digest };
        return { kind: 'lost', name, digest: effect.digest, reason: 'golden-mismatch', detail: 'made up' };
      default:
        return undefined;
    }
  }

  private serve(name: string, slot: string, digest: string): AgentEvent {
    if (this.slots.get(`${name}/${slot}`) !== digest)
      return { kind: 'lost', name, digest, reason: 'load', detail: 'the slot holds something else' };
    if (this.behaviours.get(digest)?.crash) return { kind: 'lost', name, digest, reason: 'crashed', detail: 'made up' };
    return { kind: 'serving', name, digest };
  }

  private plan(one: DesiredRelease): AgentEvent {
    const { name, sequence, digest } = one;
    const blobs = this.next.get(name) ?? new Map<string, Set<number>>();
    this.next.set(name, blobs);
    const missing = (blob: string, count: number): Piece[] =>
      Array.from({ length: count }, (_, index) => ({ digest: blob, offset: index * 100, length: 100 })).filter(
        ({ offset }) => blobs.get(blob)?.has(offset) !== true,
      );
    const [head] = missing(digest, 1);
    const base = { kind: 'planned', name, sequence, done: 0, total: 1000 } as const;
    if (head !== undefined) return { ...base, stage: 'manifest', missing: [head] };
    const model = missing(digestOf(`${digest} model`), 9);
    const offers = this.behaviours.get(digest)?.rebuild !== undefined && model.length > 0;
    if (!offers || blobs.has('tried')) return { ...base, stage: 'blobs', missing: model };
    return { ...base, stage: 'factors', missing: missing(digestOf(`factors ${digest}`), 2) };
  }

  private rebuild({ name, sequence, digest }: DesiredRelease, how: Behaviour['rebuild']): AgentEvent {
    const blobs = this.next.get(name);
    blobs?.set('tried', new Set());
    if (how !== 'works') return { kind: 'rebuilt', name, sequence, problem: 'made up' };
    blobs?.set(digestOf(`${digest} model`), new Set(Array.from({ length: 9 }, (_, index) => index * 100)));
    return { kind: 'rebuilt', name, sequence, problem: undefined };
  }

  private store(name: string, sequence: number, piece: Piece, damaged: number): AgentEvent {
    const blobs = this.next.get(name);
    const stored = blobs?.get(piece.digest) ?? new Set();
    blobs?.set(piece.digest, stored);
    stored.add(piece.offset);
    const times = this.damage.get(piece.digest) ?? 0;
    if (stored.size < 9 || times >= damaged) return { kind: 'piece-stored', name, sequence, piece };
    this.damage.set(piece.digest, times + 1);
    blobs?.delete(piece.digest);
    return { kind: 'blob-damaged', name, sequence, digest: piece.digest };
  }
}
