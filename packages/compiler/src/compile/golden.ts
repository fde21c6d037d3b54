import type { Board, BoardClass } from '@flotilla/boards';
import type { GoldenCase, Tolerance } from '@flotilla/pack';
import { type Tensors, type TensorValue, textGolden } from '@flotilla/runtime';
import type { DataSet } from '../data/data-set.ts';
import type { Judged } from '../evaluate/judge.ts';
import type { LoadOptions, LoweredFile } from './lower-to.ts';

/** Few and small: they travel with every pack. */
const CASES = 2;
/** Of which the steadiest are taken. */
const CANDIDATES = 8;
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
 * measured, not assumed: the model is lowered for one board of each class, and whatever differs is run here; and how far
 * the model is from itself by other orders of summation.
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
  const candidates = { ...(await planGolden(model, data, madeUp, host.roundsValues ? CANDIDATES : CASES)), adapters };
  const { plan, cases, wavering } = await steadiest(model, host, candidates);
  const byDigest = new Map<string, number>([[host.digest, 0]]);
  const measured = new Map<BoardClass, number>(); // what is allowed
  for (const board of onePerClass(host.board, boards)) {
    const lowered = await lower(board);
    const difference = byDigest.get(lowered.digest) ?? Math.max(0, ...(await differencesOf(lowered, plan, cases)));
    byDigest.set(lowered.digest, difference);
    measured.set(board.boardClass, Math.max(difference * MARGIN, wavering * WAVERING_MARGIN, lowered.spread));
  }
  return { cases, tolerance: tolerances(measured) };
}

/**
 * The cases in which the model differs least from itself where floats are added up in another order, as other machines
 * do: between two roundings to integers the last bit of a float decides on a whole level. Each degree of ONNX Runtime's
 * optimizer has kernels, and so an order, of its own.
 */
async function steadiest(
  model: Judged,
  host: LoweredFile,
  plan: AdaptedPlan,
): Promise<{ readonly plan: AdaptedPlan; readonly cases: readonly GoldenCase[]; readonly wavering: number }> {
  const cases = await answersOf(model, plan);
  if (!host.roundsValues) return { plan, cases, wavering: 0 };
  const found = cases.map(() => 0);
  for (const optimization of ['basic', 'extended'] as const) {
    const differences = await differencesOf(host, plan, cases, { optimization });
    for (const [i, difference] of differences.entries()) found[i] = Math.max(found[i] ?? 0, difference);
  }
  // Each adapter has its one case.
  const most = plan.adapters.length > 0 ? cases.length : CASES;
  const order = [...found.keys()].toSorted((a, b) => (found[a] ?? 0) - (found[b] ?? 0)).slice(0, most);
  const chosen = order.toSorted((a, b) => a - b);
  const wavering = Math.max(0, ...chosen.map((i) => found[i] ?? 0));
  const only = <T>(all: readonly T[]): readonly T[] => all.filter((_, i) => chosen.includes(i));
  return {
    plan: plan.kind === 'tensor' && plan.adapters.length === 0 ? { ...plan, cases: only(plan.cases) } : plan,
    cases: only(cases),
    wavering,
  };
}

/** Of each case. */
async function differencesOf(
  lowered: LoweredFile,
  plan: AdaptedPlan,
  cases: readonly GoldenCase[],
  how: LoadOptions = {},
): Promise<readonly number[]> {
  const model = await lowered.load(how);
  try {
    const found = await answersOf(model, plan);
    return cases.map((expected, i) => worstDifference(found[i], expected));
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
async function planGolden(
  model: Judged,
  data: DataSet | undefined,
  madeUp: readonly Tensors[],
  most: number,
): Promise<GoldenPlan> {
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
    return { kind: 'tensor', cases: madeUp.slice(0, most).map((inputs, i) => ({ name: `made-up ${i}`, inputs })) };
  }
  const samples: { name: string; inputs: Tensors }[] = [];
  for await (const { name, inputs } of data.samples()) {
    samples.push({ name, inputs });
    if (samples.length === LOOKED_AT) break;
  }
  return {
    kind: 'tensor',
    cases: samples.toSorted((a, b) => byteLength(a.inputs) - byteLength(b.inputs)).slice(0, most),
  };
}

/** What a model answers. Text: the logits of the prompt's last position and the greedy ids that follow. */
async function answersOf(model: Judged, { adapters, ...plan }: AdaptedPlan): Promise<readonly GoldenCase[]> {
  if (adapters.length === 0) return answersWith(model, plan, { count: Infinity });
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

/** `max|a − b| / max|b|`, the worst over the float outputs. */
function worstDifference(found: GoldenCase | undefined, expected: GoldenCase): number {
  const each = Object.entries(expected.outputs).map(([name, wanted]) =>
    relativeDifference(found?.outputs[name], wanted),
  );
  return Math.max(0, ...each);
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

/** What sums in another order may differ at the very least. */
const SAME = 5e-3;
/** The device runs the very samples that were measured, with the same kinds of kernels: what is left is rounding. */
const MARGIN = 1.5;
/** Two orders were tried, and the cases chosen by them: a third one lies further off. */
const WAVERING_MARGIN = 4;
/** More than this no longer tells a good model from a broken one. */
const MOST = 0.25;

/** What was found, at least 5e-3 and at most a quarter of the largest output. */
function tolerances(measured: ReadonlyMap<BoardClass, number>): Golden['tolerance'] {
  return Object.fromEntries(
    [...measured].map(([boardClass, allowed]) => {
      const rtol = Number(Math.min(MOST, Math.max(SAME, allowed)).toPrecision(2));
      return [boardClass, { atol: 1e-5, rtol }];
    }),
  );
}

function byteLength(tensors: Tensors): number {
  return Object.values(tensors).reduce((sum, { data }) => sum + ('byteLength' in data ? data.byteLength : 0), 0);
}
