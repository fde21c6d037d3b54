import type { BoardClass } from '@flotilla/boards';
import type { GoldenCase, Tolerance } from '@flotilla/pack';
import { type Tensors, type TensorValue, textGolden } from '@flotilla/runtime';
import type { DataSet } from '../data/data-set.ts';
import type { Judged } from '../evaluate/judge.ts';
import { madeUpFeeds } from './samples.ts';

/** Few and small: they travel with every pack. */
const CASES = 2;
/** Samples that are looked at for the smallest ones. */
const LOOKED_AT = 64;
const PROMPT_CHARACTERS = 80;
const ANSWER_TOKENS = 16;

/** What golden vectors are made of: inputs of tensors, or prompts. */
export type GoldenPlan =
  | { readonly kind: 'tensor'; readonly cases: readonly { readonly name: string; readonly inputs: Tensors }[] }
  | { readonly kind: 'text'; readonly prompts: readonly string[] };

/** The smallest of the first samples, the first prompts, or made-up numbers. */
export async function planGolden(model: Judged, data: DataSet | undefined): Promise<GoldenPlan> {
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
    return { kind: 'tensor', cases: [{ name: 'made-up', inputs: madeUpFeeds(model.session.inputs) }] };
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
export async function answersOf({ session, text }: Judged, plan: GoldenPlan): Promise<readonly GoldenCase[]> {
  if (plan.kind === 'text') return text ? textGolden(text, plan.prompts, { maxTokens: ANSWER_TOKENS }) : [];
  const answered: GoldenCase[] = [];
  for (const { name, inputs } of plan.cases) answered.push({ name, inputs, outputs: await session.run(inputs) });
  return answered;
}

/** `max|a − b| / max|b|`, the worst over the float outputs of all cases. */
export function worstDifference(found: readonly GoldenCase[], expected: readonly GoldenCase[]): number {
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

/** Kernels of one kind differ by a rounding here and there; what is within this is the same answer. */
const SAME = 1e-3;
/** Measured differences are of a few samples on one machine; others may be a few times as large. */
const MARGIN = 4;
/** More than this no longer tells a good model from a broken one. */
const MOST = 0.25;

/**
 * How far a board class may be from the golden outputs: four times what its lowered graph was found to differ here, at
 * least 1e-3 and at most a quarter of the largest output.
 * @param measured `worstDifference` by board class
 */
export function tolerances(measured: ReadonlyMap<BoardClass, number>): { readonly [boardClass: string]: Tolerance } {
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
