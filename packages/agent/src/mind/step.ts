import { accept } from './desired.ts';
import { begin, onBlobDamaged, onPieceArrived, onPieceStored, onPlanned, onRebuilt, onRetry } from './download.ts';
import type { AgentEvent, Effect, EventOf, Step } from './event.ts';
import { BOOTS_PER_STEP } from './limits.ts';
import { deadline, fail, fits, type Out, report, rollBack, save, serve, unchanged } from './out.ts';
import { onChecked, onCheckTimer, onLost, onReload, onServing } from './serving.ts';
import {
  type AgentState,
  emptyRecord,
  isBusy,
  isUpdating,
  type ModelRecord,
  type ModelState,
  newModel,
} from './state.ts';
import { onDeadline, onMeasured, onRefused, onStorageFailed, onWindowOver, onWorkDone, resumeTrial } from './update.ts';

/**
 * The agent's mind: what to do about an event. Pure: no disk, network, clock or chance. Brokers deliver twice, timers
 * fire late and restarts replay, so an event that does not fit the state changes nothing.
 */
export function step(state: AgentState, event: AgentEvent): Step<AgentState> {
  const next = react(state, event);
  // Without a link nothing can arrive, and waiting for it is no fault of the release.
  return next.state.online ? next : { ...next, effects: next.effects.filter((effect) => !isDownloadDeadline(effect)) };
}

function react(state: AgentState, event: AgentEvent): Step<AgentState> {
  if (event.kind === 'booted') return state.booted ? { state, effects: [] } : startNext(boot(state, event.records));
  if (!state.booted) return { state, effects: [] };
  switch (event.kind) {
    case 'link-up':
      return everyModel({ ...state, online: true }, onLinkUp);
    case 'link-down':
      return everyModel({ ...state, online: false }, onLinkDown);
    case 'piece-arrived':
      return everyModel(state, (model) => onPieceArrived(model, event));
    case 'desired': {
      const { name } = event.release;
      const known = state.models.has(name) ? state : put(state, newModel(emptyRecord(name)));
      return startNext(oneModel(known, name, (model) => accept(model, event.release, state.nextTurn)));
    }
    case 'desired-refused':
      return { state, effects: [refusal(state, event)] };
    default:
      return startNext(oneModel(state, event.name, (model) => onModelEvent(model, event)));
  }
}

const isDownloadDeadline = (effect: Effect): boolean =>
  effect.kind === 'start-timer' &&
  effect.timer === 'deadline' &&
  (effect.step === 'fetching' || effect.step === 'downloading');

type ModelEvent = Exclude<
  AgentEvent,
  { kind: 'booted' | 'link-up' | 'link-down' | 'piece-arrived' | 'desired' | 'desired-refused' }
>;

function onModelEvent(model: ModelState, event: ModelEvent): Out {
  switch (event.kind) {
    case 'planned':
      return onPlanned(model, event);
    case 'piece-stored':
      return onPieceStored(model, event);
    case 'blob-damaged':
      return onBlobDamaged(model, event);
    case 'rebuilt':
      return onRebuilt(model, event);
    case 'verified':
    case 'installed':
    case 'tested':
    case 'switched':
      return onWorkDone(model, event);
    case 'measured':
      return onMeasured(model, event);
    case 'refused':
      return onRefused(model, event);
    case 'storage-failed':
      return onStorageFailed(model, event);
    case 'serving':
      return onServing(model, event);
    case 'checked':
      return onChecked(model, event);
    case 'lost':
      return onLost(model, event);
    case 'timer':
      return onTimer(model, event);
  }
}

function onTimer(model: ModelState, event: EventOf<'timer'>): Out {
  const ofThisStep = event.sequence === model.sequence && event.step === model.phase.at;
  switch (event.timer) {
    case 'deadline':
      return ofThisStep ? onDeadline(model) : unchanged(model);
    case 'retry':
      return fits(model, event, 'fetching', 'downloading') ? onRetry(model) : unchanged(model);
    case 'window':
      return ofThisStep ? onWindowOver(model) : unchanged(model);
    case 'check':
      return onCheckTimer(model);
    case 'reload':
      return onReload(model);
  }
}

/** After a restart: serve what the pointer says, and take up an update where its record says it was. */
function boot(state: AgentState, records: readonly ModelRecord[]): Step<AgentState> {
  const effects: Effect[] = [];
  const models = new Map<string, ModelState>();
  for (const record of records) {
    const out = bootModel(newModel(record), models.size + 1);
    models.set(record.name, out.model);
    effects.push(...out.effects);
  }
  return { state: { ...state, booted: true, models, nextTurn: models.size + 1 }, effects };
}

function bootModel(model: ModelState, turn: number): Out {
  const { at } = model.phase;
  if (!isUpdating(at)) return { model, effects: model.active === undefined ? [] : [serve(model)] };
  const again = { ...model, boots: model.boots + 1, turn };
  const detail = `the agent started ${again.boots} times within step "${at}"`;
  if (at === 'trial') return again.boots > BOOTS_PER_STEP ? rollBack(again, 'crash-loop', detail) : resumeTrial(again);
  const serving = model.active === undefined ? [] : [serve(model)];
  if (again.boots > BOOTS_PER_STEP) {
    const failed = fail(again, 'crash-loop', detail);
    return { model: failed.model, effects: [...serving, ...failed.effects] };
  }
  // What a step had done is on the disk and is found again by the plan: nothing is fetched twice.
  const waiting: ModelState = { ...again, phase: { at: 'waiting' } };
  return { model: waiting, effects: [...serving, save(waiting)] };
}

/** One update at a time: the next in turn begins when none is under way. */
function startNext(before: Step<AgentState>): Step<AgentState> {
  const models = [...before.state.models.values()];
  if (models.some((model) => isBusy(model.phase))) return before;
  const [next] = models.filter((model) => model.phase.at === 'waiting').sort((one, other) => one.turn - other.turn);
  if (next === undefined) return before;
  const { model, effects } = begin(next);
  return { state: put(before.state, model), effects: [...before.effects, ...effects] };
}

/** A controller that was away learns everything again; the time without a link counts against no deadline. */
function onLinkUp(model: ModelState): Out {
  const waits = model.phase.at === 'fetching' || model.phase.at === 'downloading';
  const asks = (model.download?.asked ?? []).map((piece): Effect => {
    return { kind: 'ask', name: model.name, sequence: model.sequence, piece };
  });
  return { model, effects: [report(model), ...(waits ? [deadline(model), ...asks] : [])] };
}

function onLinkDown(model: ModelState): Out {
  if (model.phase.at !== 'fetching' && model.phase.at !== 'downloading') return unchanged(model);
  return { model, effects: [{ kind: 'stop-timers', name: model.name, timers: ['deadline'] }] };
}

function refusal(state: AgentState, event: EventOf<'desired-refused'>): Effect {
  const model = state.models.get(event.name) ?? newModel(emptyRecord(event.name));
  const { sequence, digest: releaseDigest, detail } = event;
  const said = report(model, { reason: 'desired-signature', detail });
  return { ...said, state: 'failed', sequence, releaseDigest };
}

function everyModel(state: AgentState, rule: (model: ModelState) => Out): Step<AgentState> {
  const outs = [...state.models.values()].map(rule);
  return {
    state: { ...state, models: new Map(outs.map(({ model }) => [model.name, model])) },
    effects: outs.flatMap(({ effects }) => effects),
  };
}

function oneModel(state: AgentState, name: string, rule: (model: ModelState) => Out): Step<AgentState> {
  const model = state.models.get(name);
  if (model === undefined) return { state, effects: [] };
  const out = rule(model);
  if (out.model === model) return { state, effects: out.effects };
  return { state: { ...put(state, out.model), nextTurn: state.nextTurn + 1 }, effects: out.effects };
}

function put(state: AgentState, model: ModelState): AgentState {
  return { ...state, models: new Map(state.models).set(model.name, model) };
}
