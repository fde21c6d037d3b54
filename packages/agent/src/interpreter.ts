import type { PublicKey } from '@flotilla/pack';
import type { FailureReason } from '@flotilla/protocol';
import type { AgentEvent, Effect, EffectOf, Job } from './mind/event.ts';
import { type AgentState, initialState, type ModelRecord } from './mind/state.ts';
import { step } from './mind/step.ts';
import type { ModelHost } from './model-host.ts';
import type { Engine, LoadedModel } from './ports.ts';
import { Refusal, refusalOf, storageReason } from './refusal.ts';
import type { Reporter } from './reporter.ts';
import type { Store } from './store/store.ts';
import type { Timers } from './timers.ts';

export interface InterpreterParts {
  readonly store: Store;
  readonly host: ModelHost;
  readonly engine: Pick<Engine, 'rebuild'>;
  readonly reporter: Reporter;
  readonly timers: Timers;
  readonly keyring: { readonly packKeys: readonly PublicKey[] };
  readonly boardClass: string;
  /** How long the latency of a candidate is measured. */
  readonly measureMs: number;
  readonly log: (line: string) => void;
  /** Before every effect; a test ends the agent here. */
  readonly before?: ((effect: Effect) => void | Promise<void>) | undefined;
}
type Kind = Effect['kind'];
type CarryOut = { readonly [K in Kind]: (effect: EffectOf<K>) => void | Promise<void> };

/** Carries out what the mind decides, and tells it what came of it. */
export class Interpreter {
  private readonly parts: InterpreterParts;
  private readonly events: AgentEvent[] = [];
  private current: AgentState = initialState;
  private draining: Promise<void> | undefined;
  private stopped = false;
  private readonly jobs = new Map<string, AbortController>();
  /** The end of the last work on a model's files: it is done one after the other. */
  private readonly turns = new Map<string, Promise<unknown>>();

  constructor(parts: InterpreterParts) {
    this.parts = parts;
  }

  get state(): AgentState {
    return this.current;
  }

  dispatch(event: AgentEvent): void {
    if (this.stopped) return;
    this.events.push(event);
    this.draining ??= this.drain().finally(() => (this.draining = undefined));
  }

  /** Nothing more happens after it. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.parts.timers.stopAll();
    for (const job of this.jobs.values()) job.abort();
    await this.draining;
    await Promise.allSettled(this.turns.values());
  }

  /** Says that a loaded model is broken, if it is the one that serves. */
  async lose(name: string, model: LoadedModel, { reason, message }: Refusal): Promise<void> {
    if (await this.parts.host.discard(name, model))
      this.dispatch({ kind: 'lost', name, digest: model.digest, reason, detail: message });
  }

  private async drain(): Promise<void> {
    for (let event = this.events.shift(); event !== undefined && !this.stopped; event = this.events.shift()) {
      const { state, effects } = step(this.current, event);
      this.current = state;
      await this.carryOutAll(effects);
    }
  }

  private async carryOutAll(effects: readonly Effect[]): Promise<void> {
    for (const effect of effects) {
      await this.parts.before?.(effect);
      if (this.stopped) return;
      try {
        // The table has one entry per kind; TypeScript cannot see that kind and entry belong together.
        await (this.carryOut[effect.kind] as (one: Effect) => void | Promise<void>)(effect);
      } catch (error) {
        if (effect.kind !== 'save' && effect.kind !== 'switch') throw error;
        return this.storageFailed(effect.record, error);
      }
    }
  }

  private readonly carryOut: CarryOut = {
    save: ({ record }) => this.parts.store.save(record),
    switch: async ({ record }) => {
      await this.parts.store.save(record);
      this.dispatch({ kind: 'switched', name: record.name, sequence: record.sequence });
    },
    clean: ({ name, keep }) =>
      this.inTurn(name, () => this.parts.store.clean(name, keep)).catch((error: unknown) => {
        this.parts.log(`${name}: leftovers of an update could not be removed: ${String(error)}`);
      }),
    'drop-slot': ({ name, slot }) =>
      this.inTurn(name, () => this.parts.store.dropSlot(name, slot)).catch((error: unknown) => {
        this.parts.log(`${name}: slot ${slot} could not be removed: ${String(error)}`);
      }),
    'mark-committed': ({ name, installed, sequence }) =>
      this.parts.store.markCommitted(name, installed, sequence).catch((error: unknown) => {
        this.parts.log(`${name}: slot ${installed.slot} could not be marked: ${String(error)}`);
      }),
    plan: ({ release }) =>
      this.work(release, undefined, 'storage-fault', async () => {
        const plan = await this.parts.store.plan(release);
        return { kind: 'planned', name: release.name, sequence: release.sequence, ...plan };
      }),
    ask: ({ piece }) => this.parts.reporter.ask(piece),
    store: ({ name, sequence, piece, data }) =>
      this.work({ name, sequence }, undefined, 'storage-fault', async () => {
        const stored = await this.parts.store.store(name, piece, data);
        if (stored === 'damaged') return { kind: 'blob-damaged', name, sequence, digest: piece.digest };
        return { kind: 'piece-stored', name, sequence, piece };
      }),
    rebuild: ({ release, timeoutMs }) =>
      this.work(release, undefined, 'storage-fault', async (signal) => {
        const { name, sequence } = release;
        const { store, engine, log } = this.parts;
        try {
          await store.rebuild(release, (plan) => engine.rebuild(plan, { signal, timeoutMs }));
          return { kind: 'rebuilt', name, sequence, problem: undefined };
        } catch (error) {
          const problem = refusalOf(error, 'load').message;
          if (!signal.aborted) log(`${name}: not rebuilt, fetched whole: ${problem}`);
          return { kind: 'rebuilt', name, sequence, problem };
        }
      }),
    verify: ({ release }) =>
      this.work(release, 'verifying', 'pack-invalid', async () => {
        await this.parts.store.verify(release, this.parts.keyring.packKeys, this.parts.boardClass);
        return { kind: 'verified', name: release.name, sequence: release.sequence };
      }),
    install: ({ release, slot }) =>
      this.work(release, 'installing', 'load', async (signal) => {
        const { name, sequence } = release;
        await this.parts.store.install(release, slot);
        const model = await this.parts.host.loadCandidate(name, this.parts.store.slot(name, slot), signal);
        if (model.digest !== release.digest) throw new Refusal('pack-digest', `${model.digest} was loaded`);
        return { kind: 'installed', name, sequence };
      }),
    test: ({ name, sequence }) =>
      this.work({ name, sequence }, 'testing', 'load', async (signal) => {
        await this.candidate(name).golden(signal);
        return { kind: 'tested', name, sequence };
      }),
    measure: ({ name, sequence }) =>
      this.work({ name, sequence }, 'measuring', 'load', async (signal) => {
        const model = this.candidate(name);
        const { p50Us } = await model.measure(this.parts.measureMs, signal);
        return { kind: 'measured', name, sequence, p50Us, budgetUs: model.budgetUs };
      }),
    cancel: ({ name }) => {
      this.jobs.get(name)?.abort();
      this.jobs.delete(name);
      void this.inTurn(name, () => this.parts.host.dropCandidate(name)).catch(() => undefined);
    },
    serve: ({ name, slot, digest }) => {
      void this.serve(name, digest, this.parts.store.slot(name, slot));
    },
    unload: ({ name }) => {
      void this.parts.host.unload(name).catch(() => undefined); // it is gone either way
    },
    check: ({ name, digest }) => {
      void this.check(name, digest);
    },
    'start-timer': (effect) => this.parts.timers.start(effect, (event) => this.dispatch(event)),
    'stop-timers': ({ name, timers }) => {
      for (const timer of timers) this.parts.timers.stop(name, timer);
    },
    report: (effect) => {
      const { state, reason, detail, name } = this.parts.reporter.report(effect);
      this.parts.log(`${name}: ${state}${reason === undefined ? '' : `, ${reason}: ${detail}`}`);
    },
  };

  /** Runs on while other events are handled. What comes of it after a cancel is nobody's. */
  private work(
    { name, sequence }: Job,
    step: string | undefined,
    otherwise: FailureReason,
    act: (signal: AbortSignal) => Promise<AgentEvent>,
  ): void {
    const job = this.jobs.get(name) ?? new AbortController();
    this.jobs.set(name, job);
    const { signal } = job;
    void this.inTurn(name, async () => {
      if (signal.aborted) return;
      const event = await act(signal).catch((error: unknown): AgentEvent => {
        const { reason, message: detail } = refusalOf(error, otherwise);
        return { kind: 'refused', name, sequence, step, reason, detail };
      });
      if (!signal.aborted) this.dispatch(event);
    });
  }

  private async serve(name: string, digest: string, folder: string): Promise<void> {
    try {
      const model = await this.parts.host.serve(name, digest, folder);
      if (model.digest !== digest) throw new Refusal('pack-digest', `slot holds ${model.digest}`);
      this.dispatch({ kind: 'serving', name, digest });
    } catch (error) {
      const { reason, message: detail } = refusalOf(error, 'load');
      this.dispatch({ kind: 'lost', name, digest, reason, detail });
    }
  }

  private async check(name: string, digest: string): Promise<void> {
    const model = this.parts.host.serving(name);
    if (model?.digest !== digest) return;
    try {
      await model.golden(new AbortController().signal);
      this.dispatch({ kind: 'checked', name, digest });
    } catch (error) {
      await this.lose(name, model, refusalOf(error, 'unhealthy'));
    }
  }

  private candidate(name: string): LoadedModel {
    const model = this.parts.host.candidate(name);
    if (model === undefined) throw new Refusal('load', 'the candidate is not loaded');
    return model;
  }

  private storageFailed({ name, sequence }: ModelRecord, error: unknown): void {
    const reason = storageReason(error) ?? 'storage-fault';
    const detail = error instanceof Error ? error.message : String(error);
    this.dispatch({ kind: 'storage-failed', name, sequence, reason, detail });
  }

  private inTurn<T>(name: string, act: () => Promise<T>): Promise<T> {
    const turn = (this.turns.get(name) ?? Promise.resolve()).then(act, act);
    this.turns.set(
      name,
      turn.catch(() => undefined),
    );
    return turn;
  }
}
