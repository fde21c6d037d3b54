import type { BoardClass } from '@flotilla/boards';
import type { GoldenCase, Tolerance } from '@flotilla/pack';
import type { Tensors, TensorValue } from '@flotilla/runtime';
import type { DataSet } from '../data/data-set.ts';
import type { Judged } from '../evaluate/judge.ts';
import { madeUpFeeds } from './samples.ts';

/** Few and small: they travel with every pack. */
const CASES = 2;
/** Samples that are looked at for the smallest ones. */
const LOOKED_AT = 64;
const PROMPT_TOKENS = 16;

/** The inputs of golden vectors: the smallest of the first samples, the first prompts, or made-up numbers. */
export async function goldenInputs(model: Judged, data: DataSet | undefined): Promise<readonly NamedInputs[]> {
  if (model.text) return goldenPrompts(model, data);
  if (data?.kind !== 'tensor') return [{ name: 'made-up', inputs: madeUpFeeds(model.session.inputs) }];
  const samples: NamedInputs[] = [];
  for await (const { name, inputs } of data.samples()) {
    samples.push({ name, inputs });
    if (samples.length === LOOKED_AT) break;
  }
  return samples.toSorted((a, b) => byteLength(a.inputs) - byteLength(b.inputs)).slice(0, CASES);
}

export interface NamedInputs {
  readonly name: string;
  readonly inputs: Tensors;
}

async function goldenPrompts({ text }: Judged, data: DataSet | undefined): Promise<readonly NamedInputs[]> {
  const prompts: NamedInputs[] = [];
  const add = (name: string, ids: readonly number[]): void => {
    const data64 = BigInt64Array.from(ids, BigInt);
    prompts.push({ name, inputs: { input_ids: { dtype: 'int64', dims: [1, ids.length], data: data64 } } });
  };
  if (data?.kind === 'text') {
    for await (const sample of data.texts()) {
      const ids = text?.tokenizer.encode(sample.text).slice(0, PROMPT_TOKENS) ?? [];
      if (ids.length > 0) add(sample.name, ids);
      if (prompts.length === CASES) return prompts;
    }
  }
  if (prompts.length === 0)
    add('made-up', text?.tokenizer.encode('The quick brown fox').slice(0, PROMPT_TOKENS) ?? [1]);
  return prompts;
}

/** What a model answers to golden inputs; a language model with the logits `[tokens, vocabulary]` of the prompt. */
export async function answersOf(model: Judged, cases: readonly NamedInputs[]): Promise<readonly GoldenCase[]> {
  const answered: GoldenCase[] = [];
  for (const { name, inputs } of cases) {
    answered.push({
      name,
      inputs,
      outputs: model.text ? await textAnswer(model, inputs) : await model.session.run(inputs),
    });
  }
  return answered;
}

async function textAnswer({ text }: Judged, { input_ids: prompt }: Tensors): Promise<Tensors> {
  if (!text || prompt?.dtype !== 'int64') return {};
  return { logits: await text.logits(Array.from(prompt.data, Number)) };
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
