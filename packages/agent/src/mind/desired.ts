import type { DesiredRelease } from '@flotilla/protocol';
import { clean, commit, deadline, type Out, report, save, serve, startTimer, stopUpdate, unchanged } from './out.ts';
import { isUpdating, type ModelState } from './state.ts';

/** A newer desired release replaces whatever was under way; an older one, or another under the same number, is refused. */
export function accept(model: ModelState, release: DesiredRelease, turn: number): Out {
  if (model.release !== undefined && release.sequence === model.sequence) {
    if (sameRelease(model.release, release)) return unchanged(model);
    return refuse(model, `sequence ${release.sequence} came again with other content`);
  }
  if (release.sequence < model.sequence)
    return refuse(model, `sequence ${release.sequence} is older than ${model.sequence}`);
  const next: ModelState = {
    ...model,
    release,
    sequence: release.sequence,
    furthest: 0,
    boots: 0,
    retries: 0,
    losses: 0,
  };
  if (model.phase.at === 'trial' && model.active?.digest === release.digest) return tryAnew(next);
  const { model: settled, effects } = isUpdating(model.phase.at) ? abandon(next) : unchanged(next);
  if (settled.active?.digest === release.digest && !isLost(model)) return alreadyThere(settled, effects);
  const waiting: ModelState = { ...settled, phase: { at: 'waiting' }, turn };
  return { model: waiting, effects: [...effects, save(waiting), report(waiting)] };
}

/** Told once and then forgotten: what the device does is not changed by it. */
function refuse(model: ModelState, detail: string): Out {
  return { model, effects: [{ ...report(model, { reason: 'desired-replayed', detail }), state: 'failed' }] };
}

/** The slot's model was given up as it would not stay loaded: to want it again is to want it installed anew. */
function isLost({ phase, loaded }: ModelState): boolean {
  return phase.at === 'failed' && phase.reason === 'crash-loop' && loaded === '';
}

/** What is on trial is wanted under another sequence: the timers of the earlier one no longer count. */
function tryAnew(model: ModelState): Out {
  const next = { ...model, windowOver: false };
  const window = startTimer(next, 'window', next.release?.healthWindowMs ?? 0);
  return { model: next, effects: [save(next), deadline(next), window, report(next)] };
}

function alreadyThere(model: ModelState, before: Out['effects']): Out {
  const { model: committed, effects } = commit(model);
  const again = committed.loaded === committed.active?.digest ? [] : [serve(committed)];
  return { model: committed, effects: [...before, ...effects, ...again, clean(committed)] };
}

/** Ends an update without a verdict. One on trial goes back first: its fallback's slot is where the next one goes. */
function abandon(model: ModelState): Out {
  const stopped = { ...model, download: undefined, checks: 0, windowOver: false };
  if (model.phase.at !== 'trial') return { model: stopped, effects: stopUpdate(model) };
  const back: ModelState = { ...stopped, active: model.fallback, fallback: undefined, loaded: '' };
  return { model: back, effects: [...stopUpdate(model), serve(back), clean(back)] };
}

function sameRelease(one: DesiredRelease, other: DesiredRelease): boolean {
  return (Object.keys(one) as (keyof DesiredRelease)[]).every((key) => one[key] === other[key]);
}
