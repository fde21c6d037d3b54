import type { Board, BoardClass } from '@flotilla/boards';
import type { GoldenCase } from '@flotilla/pack';
import type { Tensors, TensorValue } from '@flotilla/runtime';
import type { DataSet } from '../data/data-set.ts';
import type { Judged } from '../evaluate/judge.ts';
import { takeTextGolden } from './golden-text.ts';
import { CASES, type Golden, onePerClass, tolerances, WAVERING_MARGIN } from './golden-tolerance.ts';
import type { LoadOptions, LoweredFile } from './lower-to.ts';

/** Of which the steadiest are taken. */
const CANDIDATES = 8;
/** Samples that are looked at for the smallest ones. */
const LOOKED_AT = 64;

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
  if (model.text) return takeTextGolden(model.text, host, { boards, data, adapters, lower });
  const candidates = { cases: await planGolden(data, madeUp, host.roundsValues ? CANDIDATES : CASES), adapters };
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
  plan: GoldenPlan,
): Promise<{ readonly plan: GoldenPlan; readonly cases: readonly GoldenCase[]; readonly wavering: number }> {
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
    plan: plan.adapters.length === 0 ? { ...plan, cases: only(plan.cases) } : plan,
    cases: only(cases),
    wavering,
  };
}

/** Of each case. */
async function differencesOf(
  lowered: LoweredFile,
  plan: GoldenPlan,
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

/** What golden vectors are made of. */
interface GoldenPlan {
  readonly cases: readonly { readonly name: string; readonly inputs: Tensors }[];
  readonly adapters: readonly string[];
}

/** The smallest of the first samples, or made-up numbers. */
async function planGolden(
  data: DataSet | undefined,
  madeUp: readonly Tensors[],
  most: number,
): Promise<GoldenPlan['cases']> {
  if (data?.kind !== 'tensor') return madeUp.slice(0, most).map((inputs, i) => ({ name: `made-up ${i}`, inputs }));
  const samples: { name: string; inputs: Tensors }[] = [];
  for await (const { name, inputs } of data.samples()) {
    samples.push({ name, inputs });
    if (samples.length === LOOKED_AT) break;
  }
  return samples.toSorted((a, b) => byteLength(a.inputs) - byteLength(b.inputs)).slice(0, most);
}

async function answersOf({ session }: Judged, { adapters, cases }: GoldenPlan): Promise<readonly GoldenCase[]> {
  const answered: GoldenCase[] = [];
  // With adapters one case for the base, and one for each of them.
  for (const adapter of [undefined, ...adapters])
    for (const { name, inputs } of adapters.length > 0 ? cases.slice(0, 1) : cases) {
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

/** The device runs the very samples that were measured, with the same kinds of kernels: what is left is rounding. */
const MARGIN = 1.5;
function byteLength(tensors: Tensors): number {
  return Object.values(tensors).reduce((sum, { data }) => sum + ('byteLength' in data ? data.byteLength : 0), 0);
}
