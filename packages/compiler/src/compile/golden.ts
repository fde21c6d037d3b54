import type { Board, BoardClass } from '@flotilla/boards';
import type { GoldenCase, Tolerance } from '@flotilla/pack';
import { type Tensors, type TensorValue, textGolden } from '@flotilla/runtime';
import type { DataSet } from '../data/data-set.ts';
import type { Judged } from '../evaluate/judge.ts';
import type { LoweredFile } from './lower-to.ts';

/** Few and small: they travel with every pack. */
const CASES = 2;
/** Samples that are looked at for the smallest ones. */
const LOOKED_AT = 64;
const PROMPT_CHARACTERS = 80;
const ANSWER_TOKENS = 16;

export interface Golden {
  readonly cases: readonly GoldenCase[];
  readonly tolerance: { readonly [boardClass: string]: Tolerance };
}

/**
 * Golden vectors: what the model answers on this machine, and how far each class of boards may be from it. That is
 * measured, not assumed: the model is lowered for one board of each class, and whatever differs is run here.
 */
export async function takeGolden(
  model: Judged,
  host: LoweredFile,
  {
    boards,
    data,
    madeUp,
    adapters,
    lower,
  }: {
    boards: readonly Board[];
    data: DataSet | undefined;
    /** Used where there is no data. */
    madeUp: readonly Tensors[];
    /** Of those beside the model; one case each, and one for the base alone. */
    adapters: readonly string[];
    lower: (board: Board) => Promise<LoweredFile>;
  },
): Promise<Golden> {
  const plan = { ...(await planGolden(model, data, madeUp)), adapters };
  const cases = await answersOf(model, plan);
  const byDigest = new Map<string, number>([[host.digest, 0]]);
  const measured = new Map<BoardClass, number>();
  for (const board of onePerClass(host.board, boards)) {
    const lowered = await lower(board);
    const difference = byDigest.get(lowered.digest) ?? (await differenceOf(lowered, plan, cases));
    byDigest.set(lowered.digest, difference);
    measured.set(board.boardClass, Math.max(difference, lowered.spread / MARGIN));
  }
  return { cases, tolerance: tolerances(measured) };
}

async function differenceOf(lowered: LoweredFile, plan: AdaptedPlan, cases: readonly GoldenCase[]): Promise<number> {
  const model = await lowered.load();
  try {
    return worstDifference(await answersOf(model, plan), cases);
  } finally {
    await model.session.close();
  }
}

/** One board of each class that is asked for, and of both x86 classes where this is an x86: servers are of either. */
function onePerClass(host: Board, boards: readonly Board[]): readonly Board[] {
  const byClass = new Map(boards.map((board) => [board.boardClass, board]));
  const own: readonly BoardClass[] = host.arch === 'x64' ? ['x64', 'x64-vnni'] : [host.boardClass];
  for (const boardClass of own) if (!byClass.has(boardClass)) byClass.set(boardClass, { ...host, boardClass });
  return [...byClass.values()];
}

/** What golden vectors are made of: inputs of tensors, or prompts. */
type GoldenPlan =
  | { readonly kind: 'tensor'; readonly cases: readonly { readonly name: string; readonly inputs: Tensors }[] }
  | { readonly kind: 'text'; readonly prompts: readonly string[] };

type AdaptedPlan = GoldenPlan & { readonly adapters: readonly string[] };

/** The smallest of the first samples, the first prompts, or made-up numbers. */
async function planGolden(model: Judged, data: DataSet | undefined, madeUp: readonly Tensors[]): Promise<GoldenPlan> {
  if (model.text) {
    const prompts: string[] = [];
    if (data?.kind === 'text') {
      for await (const { text } of data.texts()) {
        // Beginnings of long texts: a golden case is to run in a moment on a small board.
        prompts.push(text.slice(0, PROMPT_CHARACTERS));
        if (prompts.length === CASES) break;
      }
    }
    return { kind: 'text', prompts: prompts.length > 0 ? prompts : ['The quick brown fox'] };
  }
  if (data?.kind !== 'tensor') {
    return { kind: 'tensor', cases: madeUp.slice(0, CASES).map((inputs, i) => ({ name: `made-up ${i}`, inputs })) };
  }
  const samples: { name: string; inputs: Tensors }[] = [];
  for await (const { name, inputs } of data.samples()) {
    samples.push({ name, inputs });
    if (samples.length === LOOKED_AT) break;
  }
  return {
    kind: 'tensor',
    cases: samples.toSorted((a, b) => byteLength(a.inputs) - byteLength(b.inputs)).slice(0, CASES),
  };
}

/** What a model answers. Text: the logits of the prompt's last position and the greedy ids that follow. */
async function answersOf(model: Judged, { adapters, ...plan }: AdaptedPlan): Promise<readonly GoldenCase[]> {
  if (adapters.length === 0) return answersWith(model, plan, { count: CASES });
  const answered: GoldenCase[] = [];
  for (const adapter of [undefined, ...adapters])
    answered.push(...(await answersWith(model, plan, { count: 1, adapter })));
  return answered;
}

async function answersWith(
  { session, text }: Judged,
  plan: GoldenPlan,
  { count, adapter }: { readonly count: number; readonly adapter?: string | undefined },
): Promise<readonly GoldenCase[]> {
  if (plan.kind === 'text')
    return text ? textGolden(text, plan.prompts.slice(0, count), { maxTokens: ANSWER_TOKENS, adapter }) : [];
  const answered: GoldenCase[] = [];
  for (const { name, inputs } of plan.cases.slice(0, count)) {
    const outputs = await session.run(inputs, { adapter: adapter ?? null });
    answered.push({ name, ...(adapter !== undefined && { adapter }), inputs, outputs });
  }
  return answered;
}

/** `max|a − b| / max|b|`, the worst over the float outputs of all cases. */
function worstDifference(found: readonly GoldenCase[], expected: readonly GoldenCase[]): number {
  let worst = 0;
  for (const [index, { outputs }] of expected.entries()) {
    for (const [name, wanted] of Object.entries(outputs)) {
      worst = Math.max(worst, relativeDifference(found[index]?.outputs[name], wanted));
    }
  }
  return worst;
}

function relativeDifference(found: TensorValue | undefined, wanted: TensorValue): number {
  if (wanted.dtype !== 'float32') return 0;
  if (found?.dtype !== 'float32') return Infinity;
  let most = 0;
  let size = 0;
  for (let i = 0; i < wanted.data.length; i++) {
    most = Math.max(most, Math.abs((found.data[i] ?? 0) - (wanted.data[i] ?? 0)));
    size = Math.max(size, Math.abs(wanted.data[i] ?? 0));
  }
  return size === 0 ? most : most / size;
}

/** Rounding to 8 bits on the way turns a difference of the last float bit into one of a level, here and there. */
const SAME = 5e-3;
/** The device runs the very samples that were measured, with the same kinds of kernels: what is left is rounding. */
const MARGIN = 1.5;
/** More than this no longer tells a good model from a broken one. */
const MOST = 0.25;

/**
 * How far a board class may be from the golden outputs: one and a half times what its lowered graph was found to differ here, at
 * least 5e-3 and at most a quarter of the largest output.
 */
function tolerances(measured: ReadonlyMap<BoardClass, number>): Golden['tolerance'] {
  return Object.fromEntries(
    [...measured].map(([boardClass, difference]) => {
      const rtol = Number(Math.min(MOST, Math.max(SAME, difference * MARGIN)).toPrecision(2));
      return [boardClass, { atol: 1e-5, rtol }];
    }),
  );
}

function byteLength(tensors: Tensors): number {
  return Object.values(tensors).reduce((sum, { data }) => sum + ('byteLength' in data ? data.byteLength : 0), 0);
}
