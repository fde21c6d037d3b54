import { plan } from './download.ts';
import type { Effect, EventOf } from './event.ts';
import {
  commit,
  deadline,
  enter,
  fail,
  fits,
  type Out,
  report,
  rollBack,
  save,
  serve,
  startTimer,
  unchanged,
} from './out.ts';
import { type Installed, isBusy, isUpdating, type ModelState, recordOf, STEPS, targetSlot } from './state.ts';

/** The steps between download and trial: each begins the next one's work. */
export function onWorkDone(model: ModelState, event: EventOf<'verified' | 'installed' | 'tested' | 'switched'>): Out {
  const { name, sequence, release } = model;
  switch (event.kind) {
    case 'verified':
      if (!fits(model, event, 'verifying') || release === undefined) return unchanged(model);
      // The other slot is about to be overwritten: from here on there is nothing to fall back to but the active one.
      return enter({ ...model, fallback: undefined, download: undefined }, 'installing', [
        { kind: 'install', release, slot: targetSlot(model) },
      ]);
    case 'installed':
      if (!fits(model, event, 'installing')) return unchanged(model);
      return enter(model, 'testing', [{ kind: 'test', name, sequence }]);
    case 'tested':
      if (!fits(model, event, 'testing')) return unchanged(model);
      return enter(model, 'measuring', [{ kind: 'measure', name, sequence }]);
    case 'switched':
      if (!fits(model, event, 'switching') || release === undefined) return unchanged(model);
      return startTrial(onTrial(model, release.digest));
  }
}

export function onMeasured(model: ModelState, event: EventOf<'measured'>): Out {
  const { release } = model;
  if (!fits(model, event, 'measuring') || release === undefined) return unchanged(model);
  const { p50Us, budgetUs } = event;
  if (budgetUs !== undefined && p50Us > budgetUs)
    return fail(model, 'latency-budget', `p50 is ${ms(p50Us)} ms, the budget ${ms(budgetUs)} ms`);
  const switching = enter(model, 'switching');
  const record = recordOf(onTrial(switching.model, release.digest));
  return { ...switching, effects: [...switching.effects, { kind: 'switch', record }] };
}

export function onRefused(model: ModelState, event: EventOf<'refused'>): Out {
  const ofThisStep = event.step === undefined || event.step === model.phase.at;
  if (!ofThisStep || event.sequence !== model.sequence || !isBusy(model.phase) || model.phase.at === 'trial')
    return unchanged(model);
  const fetches = model.phase.at === 'fetching' || model.phase.at === 'downloading';
  if (fetches && event.reason === 'storage-full' && model.fallback !== undefined)
    return makeRoom(model, model.fallback);
  return fail(model, event.reason, event.detail);
}

/** Three packs do not fit: the slot that the update would overwrite anyway goes now. What has been fetched stays. */
function makeRoom(model: ModelState, { slot }: Installed): Out {
  const next: ModelState = { ...model, fallback: undefined, download: undefined };
  return { model: next, effects: [save(next), { kind: 'drop-slot', name: model.name, slot }, ...plan(next)] };
}

export function onStorageFailed(model: ModelState, event: EventOf<'storage-failed'>): Out {
  if (event.sequence !== model.sequence) return unchanged(model);
  const { at } = model.phase;
  // Only the commit's own record is missing: the new release serves, and a restart would put it on trial again.
  if (at === 'committed') {
    const again: ModelState = { ...model, phase: { at: 'trial' }, windowOver: true };
    const waiting: Effect = { ...report(again), waiting: 'storage' };
    return { model: again, effects: [waiting, deadline(again), startTimer(again, 'check', 5000)] };
  }
  if (at === 'trial') return unchanged(model);
  return isUpdating(at) ? fail(model, event.reason, event.detail) : unchanged(model);
}

/** No step may hold a device for ever. */
export function onDeadline(model: ModelState): Out {
  const { at } = model.phase;
  const detail = `no result within the deadline of step "${at}"`;
  switch (at) {
    case 'fetching':
    case 'downloading':
      return fail(model, 'download-timeout', detail);
    case 'verifying':
    case 'switching':
      return fail(model, 'storage-fault', detail);
    case 'installing':
    case 'testing':
    case 'measuring':
      return fail(model, 'hung', detail);
    case 'trial':
      return rollBack(model, 'unhealthy', detail);
    case 'waiting':
    case 'empty':
    case 'committed':
    case 'failed':
    case 'rolled-back':
      return unchanged(model);
  }
}

export function onWindowOver(model: ModelState): Out {
  if (model.phase.at !== 'trial') return unchanged(model);
  const over = { ...model, windowOver: true };
  return healthy(over) ? commit(over) : unchanged(over); // the next check decides, or the deadline
}

export function onTrialChecked(model: ModelState): Out {
  const checked = { ...model, checks: model.checks + 1, losses: 0 };
  if (checked.windowOver && healthy(checked)) return commit(checked);
  const windowMs = model.release?.healthWindowMs ?? 0;
  return { model: checked, effects: [startTimer(checked, 'check', Math.min(10_000, Math.max(200, windowMs / 4)))] };
}

/** Serves the new slot, whatever the device was doing before: after the switch, and again after a restart. */
export function startTrial(model: ModelState): Out {
  return { model, effects: [deadline(model), report(model), serve(model)] };
}

export function resumeTrial(model: ModelState): Out {
  const { model: next, effects } = startTrial(model);
  return { model: next, effects: [...effects, save(next)] };
}

/** The state behind the switch: pointer on the new slot, the old one to fall back to. */
function onTrial(model: ModelState, digest: string): ModelState {
  return {
    ...model,
    phase: { at: 'trial' },
    furthest: STEPS.indexOf('trial'),
    boots: 0,
    active: { slot: targetSlot(model), digest },
    fallback: model.active,
    checks: 0,
    windowOver: false,
  };
}

const healthy = (model: ModelState): boolean => model.checks > 0 && model.loaded === model.active?.digest;
const ms = (us: number): string => (us / 1000).toFixed(us < 10_000 ? 2 : 1);
