import type { EventOf } from './event.ts';
import { CHECK_MS, LOSSES, RELOAD_MS } from './limits.ts';
import { type Out, report, rollBack, save, serve, startTimer, stopUpdate, unchanged } from './out.ts';
import { isBusy, isUpdating, type ModelState } from './state.ts';
import { onTrialChecked } from './update.ts';

export function onServing(model: ModelState, event: EventOf<'serving' | 'checked'>): Out {
  if (event.digest !== model.active?.digest) return unchanged(model);
  const next = { ...model, loaded: event.digest };
  if (next.phase.at !== 'trial') return { model: next, effects: [report(next), startTimer(next, 'check', CHECK_MS)] };
  const window = startTimer(next, 'window', model.release?.healthWindowMs ?? 0);
  return { model: next, effects: [report(next), window, { kind: 'check', name: next.name, digest: next.loaded }] };
}

export function onChecked(model: ModelState, event: EventOf<'serving' | 'checked'>): Out {
  if (event.digest !== model.loaded || event.digest !== model.active?.digest) return unchanged(model);
  if (model.phase.at === 'trial') return onTrialChecked(model);
  const next = { ...model, losses: 0 };
  return { model: next, effects: [startTimer(next, 'check', CHECK_MS)] };
}

export function onCheckTimer(model: ModelState): Out {
  if (model.loaded === '' || model.loaded !== model.active?.digest) return unchanged(model);
  // The golden vectors of a candidate are running: two models at once would spoil its latency.
  if (isBusy(model.phase) && model.phase.at !== 'trial')
    return { model, effects: [startTimer(model, 'check', CHECK_MS)] };
  return { model, effects: [{ kind: 'check', name: model.name, digest: model.loaded }] };
}

/** On trial one loss is enough. Later a model is loaded again, a few times, before the release before it comes back. */
export function onLost(model: ModelState, event: EventOf<'lost'>): Out {
  if (event.digest !== model.active?.digest) return unchanged(model);
  if (model.phase.at === 'trial') return rollBack(model, event.reason, event.detail);
  const lost = { ...model, loaded: '', losses: model.losses + 1 };
  const pause = RELOAD_MS[lost.losses - 1];
  if (lost.losses < LOSSES && pause !== undefined)
    return { model: lost, effects: [report(lost), startTimer(lost, 'reload', pause)] };
  const detail = `lost ${lost.losses} times in a row, last: ${event.reason}: ${event.detail}`;
  if (isUpdating(model.phase.at)) return { model: lost, effects: [report(lost)] };
  if (lost.fallback !== undefined) return rollBack(lost, 'crash-loop', detail);
  const failed: ModelState = { ...lost, phase: { at: 'failed', reason: 'crash-loop', detail } };
  return { model: failed, effects: [...stopUpdate(failed), report(failed), save(failed)] };
}

export function onReload(model: ModelState): Out {
  return model.loaded === '' && model.active !== undefined ? { model, effects: [serve(model)] } : unchanged(model);
}
