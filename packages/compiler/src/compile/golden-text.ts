import type { Board, BoardClass } from '@flotilla/boards';
import type { GoldenCase } from '@flotilla/pack';
import { type GoldenTrace, type TextModel, textGolden, traceGolden } from '@flotilla/runtime';
import type { DataSet } from '../data/data-set.ts';
import { CASES, type Golden, onePerClass, tolerances, WAVERING_MARGIN } from './golden-tolerance.ts';
import type { LoadOptions, LoweredFile } from './lower-to.ts';

/** Prompts of which the steadiest are taken. */
const CANDIDATES = 6;
/** Beginnings of long texts: a golden case is to run in a moment on a small board. */
const PROMPT_CHARACTERS = 80;
const ANSWER_TOKENS = 16;
/** Where there is no data: of several kinds, since a model may know some of them and not others. */
const MADE_UP = ['The quick brown fox', '1, 2, 3, 4,', '{"name": "', 'It is', 'The', 'a'];
/** Cases are chosen where kernels agree best: a board's own may lie further off. An emulated Cortex-A72's lie as far. */
const MARGIN = 2;
/** Of a lead, what kernels may differ by before another token is likely to take it. */
const SAFE = 0.5;

/**
 * Golden vectors of a language model: of some prompts those on which the kernels of all classes are nearest to this
 * machine's. A device is judged by the logits behind the prompt and by its answer: where the kernels differ by so much
 * along the answer that it may become another one, that is how far they are.
 */
export async function takeTextGolden(
  text: TextModel,
  host: LoweredFile,
  {
    boards,
    data,
    adapters,
    lower,
  }: {
    readonly boards: readonly Board[];
    readonly data: DataSet | undefined;
    /** Of those beside the model; one case each, and one for the base alone. */
    readonly adapters: readonly string[];
    readonly lower: (board: Board) => Promise<LoweredFile>;
  },
): Promise<Golden> {
  const candidates = await candidatesOf(text, await promptsOf(data), adapters);
  const byDigest = new Map<string, readonly number[]>([[host.digest, candidates.map(() => 0)]]);
  const classes: { readonly boardClass: BoardClass; readonly spread: number; readonly found: readonly number[] }[] = [];
  for (const board of onePerClass(host.board, boards)) {
    const { boardClass } = board;
    const lowered = await lower(board);
    const found = byDigest.get(lowered.digest) ?? (await distances(lowered, candidates));
    byDigest.set(lowered.digest, found);
    classes.push({ boardClass, spread: lowered.spread, found });
  }
  const wavering: (readonly number[])[] = [];
  if (host.roundsValues)
    for (const optimization of ['basic', 'extended'] as const)
      wavering.push(await distances(host, candidates, { optimization }));
  const chosen = steadiest(candidates, [...classes.map(({ found }) => found), ...wavering]);
  const worst = (found: readonly number[]) => Math.max(0, ...chosen.map((i) => found[i] ?? 0));
  const own = WAVERING_MARGIN * Math.max(0, ...wavering.map(worst));
  const allowed = classes.map(
    ({ boardClass, spread, found }) => [boardClass, Math.max(MARGIN * worst(found), own, spread)] as const,
  );
  return { cases: chosen.flatMap((i) => candidates[i]?.golden ?? []), tolerance: tolerances(new Map(allowed)) };
}

interface Candidate {
  readonly golden: GoldenCase;
  readonly trace: GoldenTrace;
}

async function promptsOf(data: DataSet | undefined): Promise<readonly string[]> {
  if (data?.kind !== 'text') return MADE_UP;
  const prompts: string[] = [];
  for await (const { text } of data.texts()) {
    prompts.push(text.slice(0, PROMPT_CHARACTERS));
    if (prompts.length === CANDIDATES) break;
  }
  return prompts.length > 0 ? prompts : MADE_UP;
}

async function candidatesOf(
  text: TextModel,
  prompts: readonly string[],
  adapters: readonly string[],
): Promise<readonly Candidate[]> {
  const candidates: Candidate[] = [];
  for (const adapter of [undefined, ...adapters])
    for (const golden of await textGolden(text, prompts, { maxTokens: ANSWER_TOKENS, adapter }))
      candidates.push({ golden, trace: await traceGolden(text, golden) });
  return candidates;
}

async function distances(
  lowered: LoweredFile,
  candidates: readonly Candidate[],
  how: LoadOptions = {},
): Promise<readonly number[]> {
  const { session, text } = await lowered.load(how);
  try {
    const found: number[] = [];
    for (const one of text ? candidates : [])
      found.push(distance(await traceGolden(text as TextModel, one.golden), one));
    return found;
  } finally {
    await session.close();
  }
}

/** `max|a − b|` of the logits behind the prompt, or along the whole answer, as a part of the largest that the case holds. */
function distance(found: GoldenTrace, { golden, trace }: Candidate): number {
  const width = trace.logits.length / (trace.leads.length + 1);
  const steps = Array.from({ length: trace.leads.length + 1 }, (_, step) => {
    const [from, to] = [step * width, (step + 1) * width];
    return greatest(trace.logits.subarray(from, to), (value, i) => value - (found.logits[from + i] ?? Number.NaN));
  });
  const isSafe = [...trace.leads].every(
    (lead, step) => (steps[step] ?? Number.NaN) <= SAFE * Math.min(lead, found.leads[step] ?? Number.NaN),
  );
  const most = isSafe ? (steps[0] ?? 0) : Math.max(...steps);
  const { logits } = golden.outputs;
  const size = logits?.dtype === 'float32' ? greatest(logits.data, (value) => value) : 0;
  if (Number.isNaN(most)) return Infinity;
  return size === 0 ? most : most / size;
}

function greatest(values: Float32Array, of: (value: number, index: number) => number): number {
  return values.reduce((most, value, i) => Math.max(most, Math.abs(of(value, i))), 0);
}

/** Places of the best candidates, in their order: two, or where there are adapters one for each and for the base. */
function steadiest(candidates: readonly Candidate[], found: readonly (readonly number[])[]): readonly number[] {
  const score = (i: number) => Math.max(0, ...found.map((one) => one[i] ?? 0));
  const adapters = new Set(candidates.map(({ golden }) => golden.adapter));
  return [...adapters].flatMap((adapter) =>
    [...candidates.keys()]
      .filter((i) => candidates[i]?.golden.adapter === adapter)
      .toSorted((a, b) => score(a) - score(b))
      .slice(0, adapters.size > 1 ? 1 : CASES)
      .toSorted((a, b) => a - b),
  );
}
