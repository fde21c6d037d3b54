import { type GoldenCase, type Pack, readGolden, type Tolerance } from '@flotilla/pack';
import type { Board } from '@flotilla/boards';
import { RuntimeError } from './errors.ts';
import { halfToNumber } from './half.ts';
import type { TextModel } from './text-model.ts';
import type { LoadedSession, TensorValue } from './types.ts';

export interface GoldenDeviation {
  readonly case: string;
  readonly output: string;
  /** Greatest |out − expected|. */
  readonly error: number;
  /** `atol + rtol · max|expected|`. */
  readonly allowed: number;
}

export interface GoldenReport {
  readonly ok: boolean;
  readonly cases: number;
  /** The deviation that is the greatest share of what is allowed. */
  readonly worst: GoldenDeviation | null;
}

/** Greedy tokens of a text pack's golden case are compared with these names. */
const IDS = 'input_ids';
const LOGITS = 'logits';
const GREEDY = 'greedy';
/** Tokens whose logits are kept, where there are more: the greatest, and as many evenly over the vocabulary. */
const TOKENS = 'tokens';
const KEPT_TOKENS = 256;

/**
 * A text pack's golden cases: a prompt's ids in; logits of its last position and the greedy answer's ids out. Of a large
 * vocabulary 256 logits, and which (`tokens`): cases travel with every pack, also one that is an adapter else.
 * @param text the model that devices are to agree with
 */
export async function textGolden(
  text: TextModel,
  prompts: readonly string[],
  options: { readonly maxTokens?: number | undefined; readonly adapter?: string | undefined } = {},
): Promise<GoldenCase[]> {
  const cases: GoldenCase[] = [];
  for (const prompt of prompts) {
    const ids = text.tokenizer.encode(prompt);
    const { adapter, maxTokens = 24 } = options;
    const { data, dims } = await text.logits(ids, { adapter: adapter ?? null });
    const last = data.slice(-(dims[1] ?? 0));
    const how = { maxTokens, reusePrefix: false, adapter: adapter ?? null };
    const { ids: greedy } = await text.generate(prompt, how);
    cases.push({
      name: prompt,
      ...(adapter !== undefined && { adapter }),
      inputs: { [IDS]: int64(ids) },
      outputs: { ...sampleOf(last), [GREEDY]: int64(greedy) },
    });
  }
  return cases;
}

/** What a model says at each step of a golden case's answer, the answer being given. */
export interface GoldenTrace {
  /** Of the case's tokens, at the prompt's last position and behind each token of the answer. */
  readonly logits: Float32Array;
  /** By how much the answer's token leads the next best, at each step; below 0: it would have answered otherwise. */
  readonly leads: Float32Array;
}

/**
 * Another model along a text pack's golden case: how far it is from the one that the case was made with, and where.
 * @throws {RuntimeError} as `TextModel.logits`
 */
export async function traceGolden(text: TextModel, one: GoldenCase): Promise<GoldenTrace> {
  const ids = Array.from(numbersOf(one.inputs[IDS]));
  const greedy = Array.from(numbersOf(one.outputs[GREEDY]));
  const adapter = one.adapter ?? null;
  // The prompt by itself, as it is judged: where activations are rounded by the tensor, what follows would change it.
  const { data: prompt } = await text.logits(ids, { adapter });
  const { data, dims } = await text.logits([...ids, ...greedy], { adapter });
  const width = dims[1] ?? 0;
  const tokens = one.outputs[TOKENS]
    ? Array.from(numbersOf(one.outputs[TOKENS]))
    : Array.from({ length: width }, (_, i) => i);
  const logits = new Float32Array(tokens.length * (greedy.length + 1));
  const leads = new Float32Array(greedy.length);
  for (let step = 0; step <= greedy.length; step++) {
    const row =
      step === 0
        ? prompt.subarray(-width)
        : data.subarray((ids.length - 1 + step) * width, (ids.length + step) * width);
    for (const [i, id] of tokens.entries()) logits[step * tokens.length + i] = row[id] ?? Number.NaN;
    const wanted = greedy[step];
    if (wanted === undefined) continue;
    const other = row.reduce(
      (most, value, id) => (id === wanted ? most : Math.max(most, value)),
      Number.NEGATIVE_INFINITY,
    );
    leads[step] = (row[wanted] ?? Number.NaN) - other;
  }
  return { logits, leads };
}

/**
 * Runs a pack's golden vectors and compares them within the tolerance of the board's class.
 * @param text for text packs
 * @throws {RuntimeError} `runtime/pack` where the pack has no golden vectors, or no tolerance for this class
 */
export async function checkGolden(
  pack: Pack,
  board: Board,
  session: LoadedSession,
  text: TextModel | undefined,
): Promise<GoldenReport> {
  const { golden } = pack.config;
  if (!golden) throw new RuntimeError('runtime/pack', `${pack.path} has no golden vectors`, { where: pack.path });
  const tolerance = Object.hasOwn(golden.tolerance, board.boardClass) ? golden.tolerance[board.boardClass] : undefined;
  if (!tolerance)
    throw new RuntimeError('runtime/pack', `the pack states no tolerance for boards of class ${board.boardClass}`, {
      where: board.name,
      hint: `compile it with --board ${board.name}`,
    });
  const deviations: GoldenDeviation[] = [];
  const cases = readGolden(await pack.file(golden.path));
  for (const one of cases)
    deviations.push(...(text ? await checkText(one, text, tolerance) : await checkTensors(one, session, tolerance)));
  const worst = deviations.toSorted((a, b) => b.error / b.allowed - a.error / a.allowed)[0] ?? null;
  return { ok: deviations.length > 0 && deviations.every(isAllowed), cases: cases.length, worst };
}

/** Written so that NaN is not allowed. */
function isAllowed({ error, allowed }: GoldenDeviation): boolean {
  return error <= allowed;
}

async function checkTensors(one: GoldenCase, session: LoadedSession, tolerance: Tolerance): Promise<GoldenDeviation[]> {
  const names = Object.keys(one.outputs);
  const outputs = await session.run(one.inputs, { fetches: names, adapter: one.adapter ?? null });
  return names.map((output) => ({
    case: one.name,
    output,
    ...deviation(outputs[output] as TensorValue, one.outputs[output] as TensorValue, tolerance),
  }));
}

async function checkText(one: GoldenCase, text: TextModel, tolerance: Tolerance): Promise<GoldenDeviation[]> {
  const ids = Array.from(numbersOf(one.inputs[IDS]));
  const expected = one.outputs[LOGITS];
  const greedy = Array.from(numbersOf(one.outputs[GREEDY]));
  if (ids.length === 0 || expected?.dtype !== 'float32')
    throw new RuntimeError('runtime/pack', `golden case ${JSON.stringify(one.name)} is not one for text`);
  const adapter = one.adapter ?? null;
  const { data, dims } = await text.logits(ids, { adapter });
  const last = data.subarray(data.length - (dims[1] ?? 0));
  const tokens = one.outputs[TOKENS];
  const picked = tokens ? Float32Array.from(numbersOf(tokens), (id) => last[id] ?? Number.NaN) : last.slice();
  const found: TensorValue = { ...expected, data: picked };
  const logits = { case: one.name, output: LOGITS, ...deviation(found, expected, tolerance) };
  // Read afresh: kernels for one row and for many differ in their last bits.
  const maxTokens = Math.max(1, greedy.length);
  const answer = await text.generateFromIds(ids, { maxTokens, reusePrefix: false, adapter });
  const split = greedy.findIndex((id, i) => answer.ids[i] !== id);
  if (split < 0) return [logits];
  return [
    logits,
    await flip(one, text, { ids: [...ids, ...greedy.slice(0, split)], id: greedy[split] ?? 0 }, logits.allowed),
  ];
}

/**
 * Another token than the golden one: allowed where the two are so close that errors which are allowed may turn them
 * over. How far the golden token lies behind the best one, against twice the allowed error.
 */
async function flip(
  { name, adapter }: GoldenCase,
  text: TextModel,
  { ids, id }: { readonly ids: readonly number[]; readonly id: number },
  allowed: number,
): Promise<GoldenDeviation> {
  const { data, dims } = await text.logits(ids, { adapter: adapter ?? null });
  const last = data.subarray(data.length - (dims[1] ?? 0));
  const best = last.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY);
  return { case: name, output: GREEDY, error: best - (last[id] ?? Number.NaN), allowed: 2 * allowed };
}

function sampleOf(logits: Float32Array): GoldenCase['outputs'] {
  if (logits.length <= KEPT_TOKENS) return { [LOGITS]: { dtype: 'float32', dims: [1, logits.length], data: logits } };
  const half = KEPT_TOKENS / 2;
  const greatest = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b).slice(0, half);
  const even = Array.from({ length: half }, (_, i) => Math.floor((i * logits.length) / half));
  const tokens = [...new Set([...greatest, ...even])].sort((a, b) => a - b);
  const data = Float32Array.from(tokens, (id) => logits[id] ?? 0);
  return { [LOGITS]: { dtype: 'float32', dims: [1, tokens.length], data }, [TOKENS]: int64(tokens) };
}

function deviation(
  found: TensorValue,
  expected: TensorValue,
  { atol, rtol }: Tolerance,
): { readonly error: number; readonly allowed: number } {
  const [a, b] = [numbersOf(found), numbersOf(expected)];
  const same = a.length === b.length && found.dims.join() === expected.dims.join();
  let error = same ? 0 : Number.POSITIVE_INFINITY;
  let most = 0;
  for (let i = 0; i < b.length; i++) {
    const [got = Number.NaN, wanted = Number.NaN] = [a[i], b[i]];
    const off = Math.abs(got - wanted);
    // NaN compares false with everything: a model that answers NaN must not look perfect.
    if (!Object.is(got, wanted) && !(off <= error)) error = Number.isNaN(off) ? Number.POSITIVE_INFINITY : off;
    if (Math.abs(wanted) > most) most = Math.abs(wanted);
  }
  return { error, allowed: atol + rtol * most };
}

/** float16 as its value; int64 as the nearest double. */
function numbersOf(tensor: TensorValue | undefined): ArrayLike<number> {
  if (!tensor || tensor.dtype === 'string') return [];
  if (tensor.dtype === 'float16') return Float32Array.from(tensor.data, halfToNumber);
  if (tensor.dtype === 'int64' || tensor.dtype === 'uint64') return Float64Array.from(tensor.data, Number);
  return tensor.data;
}

function int64(ids: readonly number[]): TensorValue & { dtype: 'int64' } {
  return { dtype: 'int64', dims: [ids.length], data: BigInt64Array.from(ids, BigInt) };
}
