import type { Effect, EventOf } from './event.ts';
import { DEADLINE_MS, PIECES_IN_FLIGHT, PROGRESS_REPORTS, RETRY_MS } from './limits.ts';
import { deadline, enter, fail, fits, type Out, report, startTimer, unchanged } from './out.ts';
import type { Download, ModelState, Piece } from './state.ts';

export function begin(model: ModelState): Out {
  return enter({ ...model, download: undefined }, 'fetching', plan(model));
}

export function onPlanned(model: ModelState, event: EventOf<'planned'>): Out {
  if (!fits(model, event, 'fetching', 'downloading')) return unchanged(model);
  const { stage, missing, done, total } = event;
  if (stage === 'blobs' && missing.length === 0) return verify({ ...model, download: undefined });
  if (stage === 'factors' && missing.length === 0) return rebuild({ ...model, download: undefined });
  const download: Download = { stage, missing, asked: [], done, total, moved: true };
  const entered =
    stage !== 'manifest' && model.phase.at === 'fetching'
      ? enter({ ...model, download }, 'downloading')
      : unchanged({ ...model, download });
  const asked = ask(entered.model);
  const retry = startTimer(asked.model, 'retry', RETRY_MS);
  return { model: asked.model, effects: [...entered.effects, ...asked.effects, retry] };
}

export function onPieceArrived(model: ModelState, event: EventOf<'piece-arrived'>): Out {
  const { digest, offset, data } = event;
  const piece = model.download?.asked.find((one) => one.digest === digest && one.offset === offset);
  if (piece === undefined || piece.length !== data.length) return unchanged(model);
  return { model, effects: [{ kind: 'store', name: model.name, sequence: model.sequence, piece, data }] };
}

export function onPieceStored(model: ModelState, event: EventOf<'piece-stored'>): Out {
  const { download } = model;
  if (download === undefined || !fits(model, event, 'fetching', 'downloading')) return unchanged(model);
  const asked = download.asked.filter((piece) => !samePiece(piece, event.piece));
  if (asked.length === download.asked.length) return unchanged(model);
  const done = download.done + event.piece.length;
  const next = ask({ ...model, download: { ...download, asked, done, moved: true } });
  if (next.model.download?.asked.length === 0) return complete(next.model);
  const share = (bytes: number): number => Math.floor((bytes * PROGRESS_REPORTS) / download.total);
  return share(done) === share(download.done) ? next : { ...next, effects: [...next.effects, report(next.model)] };
}

/** What was not rebuilt is fetched: the same plan, but for the model. */
export function onRebuilt(model: ModelState, event: EventOf<'rebuilt'>): Out {
  if (!fits(model, event, 'downloading')) return unchanged(model);
  const { problem } = event;
  const told: Effect[] = problem === undefined ? [] : [{ ...report(model), detail: `fetched whole: ${problem}` }];
  return { model, effects: [deadline(model), ...told, ...plan(model)] };
}

/** Once more from the start; a second time it is not the link's fault. */
export function onBlobDamaged(model: ModelState, event: EventOf<'blob-damaged'>): Out {
  if (!fits(model, event, 'fetching', 'downloading')) return unchanged(model);
  if (model.retries > 0) return fail(model, 'pack-digest', `blob ${event.digest} came with other bytes, twice`);
  return { model: { ...model, retries: 1, download: undefined }, effects: plan(model) };
}

/** Asks again for what did not come. */
export function onRetry(model: ModelState): Out {
  const { download } = model;
  if (download === undefined) return unchanged(model);
  const next: ModelState = { ...model, download: { ...download, moved: false } };
  const timer = startTimer(next, 'retry', RETRY_MS);
  if (download.moved) return { model: next, effects: [timer] };
  const stuck: Effect = { ...report(next), waiting: 'chunk' };
  return { model: next, effects: [...download.asked.map((piece) => askFor(next, piece)), stuck, timer] };
}

/** Fills the window of pieces on their way. */
function ask(model: ModelState): Out {
  const { download } = model;
  if (download === undefined) return unchanged(model);
  const free = PIECES_IN_FLIGHT - download.asked.length;
  const pieces = download.missing.slice(0, free);
  const next = { ...download, missing: download.missing.slice(free), asked: [...download.asked, ...pieces] };
  return { model: { ...model, download: next }, effects: pieces.map((piece) => askFor(model, piece)) };
}

function complete(model: ModelState): Out {
  if (model.download?.stage === 'blobs') return verify(model);
  return { model: { ...model, download: undefined }, effects: plan(model) };
}

/** It has half the time of a step: before that is over, a model that takes too long is to be fetched instead. */
function rebuild(model: ModelState): Out {
  const { release } = model;
  const timeoutMs = (release?.stateDeadlineMs || DEADLINE_MS) / 2;
  const work: Effect[] = release === undefined ? [] : [{ kind: 'rebuild', release, timeoutMs }];
  if (model.phase.at === 'fetching') return enter(model, 'downloading', work);
  return { model, effects: [deadline(model), ...work] };
}

function verify(model: ModelState): Out {
  const { release } = model;
  return enter(model, 'verifying', release === undefined ? [] : [{ kind: 'verify', release }]);
}

export const plan = ({ release }: ModelState): readonly Effect[] =>
  release === undefined ? [] : [{ kind: 'plan', release }];
const askFor = ({ name, sequence }: ModelState, piece: Piece): Effect => ({ kind: 'ask', name, sequence, piece });
const samePiece = (one: Piece, other: Piece): boolean => one.digest === other.digest && one.offset === other.offset;
