import type { FailureReason } from '@flotilla/protocol';
import type { Effect, EffectOf, ReportBody, TimerName } from './event.ts';
import { DEADLINE_MS } from './limits.ts';
import { isUpdating, type ModelState, recordOf, STEPS, type StepName } from './state.ts';

/** What a rule for one model gives back. */
export interface Out {
  readonly model: ModelState;
  readonly effects: readonly Effect[];
}

export const unchanged = (model: ModelState): Out => ({ model, effects: [] });
export const save = (model: ModelState): Effect => ({ kind: 'save', record: recordOf(model) });
export const serve = (model: ModelState): Effect =>
  model.active === undefined
    ? { kind: 'unload', name: model.name }
    : { kind: 'serve', name: model.name, ...model.active };

export function startTimer(model: ModelState, timer: TimerName, ms: number): Effect {
  const { name, sequence, phase } = model;
  return { kind: 'start-timer', timer, name, sequence, step: phase.at, ms };
}

/** Ends everything that an update has running. */
export function stopUpdate({ name }: ModelState): readonly Effect[] {
  return [
    { kind: 'cancel', name },
    { kind: 'stop-timers', name, timers: ['deadline', 'retry', 'window'] },
  ];
}

export function report(model: ModelState, refusal?: { reason: FailureReason; detail: string }): EffectOf<'report'> {
  const { name, phase, sequence, release, active, loaded, download } = model;
  const { reason, detail } = refusal ?? ('reason' in phase ? phase : { reason: undefined, detail: '' });
  const body: ReportBody = {
    name,
    state: phase.at === 'waiting' ? 'fetching' : phase.at,
    sequence,
    releaseDigest: release?.digest ?? active?.digest ?? '',
    loadedDigest: loaded,
    reason,
    detail: detail.replace(/\s+/g, ' ').slice(0, 500),
    waiting: phase.at === 'waiting' ? 'other-update' : phase.at === 'trial' ? 'health-window' : undefined,
    bytesDone: download?.done ?? 0,
    bytesTotal: download?.total ?? 0,
  };
  return { kind: 'report', ...body };
}

/** Enters a step of the update: kept first, so that a restart knows it, then told and timed. */
export function enter(model: ModelState, at: StepName, work: readonly Effect[] = []): Out {
  const index = STEPS.indexOf(at);
  const progress = index > model.furthest ? { furthest: index, boots: 0 } : {};
  const next = { ...model, ...progress, phase: { at } };
  return { model: next, effects: [save(next), deadline(next), report(next), ...work] };
}

export function deadline(model: ModelState): Effect {
  const stepMs = model.release?.stateDeadlineMs || DEADLINE_MS;
  const windowMs = model.phase.at === 'trial' ? (model.release?.healthWindowMs ?? 0) : 0;
  return startTimer(model, 'deadline', stepMs + windowMs);
}

/** Refused before the switch: the old slot never stopped. What the update left is removed. */
export function fail(model: ModelState, reason: FailureReason, detail: string): Out {
  const next: ModelState = { ...model, ...rest, phase: { at: 'failed', reason, detail } };
  // The report goes first: on a full disk the save may not get through.
  return { model: next, effects: [...stopUpdate(model), clean(next), report(next), save(next)] };
}

/** Refused after the switch: back on the slot before, if there is one. */
export function rollBack(model: ModelState, reason: FailureReason, detail: string): Out {
  const next: ModelState = {
    ...model,
    ...rest,
    phase: { at: 'rolled-back', reason, detail },
    active: model.fallback,
    fallback: undefined,
    loaded: '',
    losses: 0,
  };
  // Serving comes first: the old model must run even where the disk takes no more writes. A restart would then find
  // the trial again, and end it again.
  return { model: next, effects: [...stopUpdate(model), serve(next), report(next), save(next), clean(next)] };
}

export function commit(model: ModelState): Out {
  const { name, sequence, active } = model;
  const next: ModelState = { ...model, ...rest, phase: { at: 'committed' } };
  const mark: Effect[] = active === undefined ? [] : [{ kind: 'mark-committed', installed: active, name, sequence }];
  return { model: next, effects: [...stopUpdate(model), save(next), ...mark, report(next)] };
}

export function clean(model: ModelState): Effect {
  const keep = [model.active, model.fallback].flatMap((installed) => (installed === undefined ? [] : [installed.slot]));
  return { kind: 'clean', name: model.name, keep };
}

/** True for work of this update, in one of these steps. An event that does not fit changes nothing. */
export function fits(model: ModelState, event: { readonly sequence: number }, ...steps: readonly StepName[]): boolean {
  const { at } = model.phase;
  return event.sequence === model.sequence && isUpdating(at) && (steps as readonly string[]).includes(at);
}

const rest = { furthest: 0, boots: 0, download: undefined, retries: 0, checks: 0, windowOver: false } as const;
