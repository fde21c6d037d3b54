import { decoderFeeds, type SessionInput, type Tensors, type TextTokenizer } from '@flotilla/runtime';
import type { DataSet, TextSample } from '../data/data-set.ts';
import type { CalibrationData } from '../runner.ts';

/** Tokens of a text that are fed for calibration: enough to fill every position's statistics, short enough to be quick. */
const CALIBRATION_TOKENS = 128;

/**
 * What calibration runs: the samples, or a language model's texts. Those with an answer are a prompt each; plain ones are
 * joined, each with its newline, and cut into windows, as they are when perplexity judges.
 */
export function calibrationData(
  data: DataSet,
  inputs: readonly SessionInput[],
  tokenizer: TextTokenizer | undefined,
): CalibrationData {
  if (data.kind === 'tensor') return data;
  return {
    async *samples() {
      for await (const ids of promptsOf(data.texts(), tokenizer)) yield { inputs: decoderFeeds(inputs, ids) };
    },
  };
}

async function* promptsOf(
  texts: AsyncIterable<TextSample>,
  tokenizer: TextTokenizer | undefined,
): AsyncIterable<readonly number[]> {
  const joined: number[] = [];
  for await (const { text, completion } of texts) {
    if (completion !== undefined) {
      const ids = tokenizer?.encode(`${text}${completion}`).slice(0, CALIBRATION_TOKENS) ?? [];
      if (ids.length > 0) yield ids;
      continue;
    }
    for (const id of tokenizer?.encode(`${text}\n`) ?? []) joined.push(id);
    while (joined.length >= CALIBRATION_TOKENS) yield joined.splice(0, CALIBRATION_TOKENS);
  }
  if (joined.length > 0) yield joined;
}

/** What the rewrites of a language model are checked on where there is no calibration data: made-up tokens do not suit it. */
export function checkData(inputs: readonly SessionInput[], tokenizer: TextTokenizer): CalibrationData {
  return {
    async *samples() {
      yield { inputs: decoderFeeds(inputs, tokenizer.encode('The quick brown fox jumps over the lazy dog.')) };
    },
  };
}

/** Tokens in the cache when a language model's step is timed. */
const PAST_TOKENS = 64;

/** What latency is measured on: the first samples, one decoding step of a language model, or made-up numbers. Given a model's inputs. */
export async function latencyFeeds(
  { data, isText, madeUp }: { data: DataSet | undefined; isText: boolean; madeUp: readonly Tensors[] },
  count = 4,
): Promise<(inputs: readonly SessionInput[]) => readonly Tensors[]> {
  if (isText) return (inputs) => [decoderFeeds(inputs, [5], PAST_TOKENS)];
  if (data?.kind !== 'tensor') return () => madeUp.slice(0, 1);
  const feeds: Tensors[] = [];
  for await (const { inputs } of data.samples()) {
    feeds.push(inputs);
    if (feeds.length === count) break;
  }
  return () => feeds;
}
