import type { TextModel } from '@flotilla/runtime';
import type { TextSample } from '../data/data-set.ts';
import { logSumExp } from '../metrics/log-softmax.ts';
import { tokenWindows } from '../metrics/token-windows.ts';
import { argMax } from '../metrics/top1.ts';
import { OutputError } from './output-error.ts';

/** How far a language model's predictions are from fp32's, as llama.cpp's `perplexity --kl-divergence` reports it. */
export interface LanguageError {
  /** Positions that were compared. */
  readonly tokens: number;
  /** KL(fp32 ‖ quantized) over the vocabulary, in nats: mean, median, 99th percentile and largest over positions. */
  readonly kld: { readonly mean: number; readonly median: number; readonly p99: number; readonly max: number };
  /** Percent of positions whose most probable token is the same ("same top p"). */
  readonly sameTopPercent: number;
}

/** 2,048 positions give the mean KLD to a few percent, and take a second for a small model. */
const WINDOWS = 16;

/** Both models on the first 16 windows of perplexity's protocol. Null where the texts hold less than two tokens. */
export async function languageError(
  [fp32, quantized]: readonly [TextModel, TextModel],
  texts: AsyncIterable<TextSample>,
  signal: AbortSignal | undefined,
): Promise<{ readonly language: LanguageError; readonly sqnrDb: number | null } | null> {
  const klds: number[] = [];
  const error = new OutputError();
  let same = 0;
  for (const ids of (await tokenWindows(fp32, texts)).slice(0, WINDOWS)) {
    signal?.throwIfAborted();
    const [a, b] = [await fp32.logits(ids.slice(0, -1)), await quantized.logits(ids.slice(0, -1))];
    error.add({ logits: a }, { logits: b });
    const vocabulary = a.dims.at(-1) ?? 1;
    klds.push(...divergences(a, b.data));
    for (let start = 0; start + vocabulary <= a.data.length; start += vocabulary) {
      if (argMax(a.data, start, vocabulary) === argMax(b.data, start, vocabulary)) same += 1;
    }
  }
  if (klds.length === 0) return null;
  klds.sort((a, b) => a - b);
  const at = (share: number): number => klds[Math.min(klds.length - 1, Math.floor(share * klds.length))] as number;
  const mean = klds.reduce((sum, kld) => sum + kld, 0) / klds.length;
  const kld = { mean, median: at(0.5), p99: at(0.99), max: at(1) };
  const language = { tokens: klds.length, kld, sameTopPercent: (100 * same) / klds.length };
  return { language, sqnrDb: error.sqnrDb() };
}

/** KL(fp32 ‖ other) of each row of logits, in nats. */
export function divergences(
  { data, dims }: { readonly data: Float32Array; readonly dims: readonly number[] },
  other: Float32Array,
): readonly number[] {
  const vocabulary = dims.at(-1) ?? 1;
  return Array.from({ length: Math.floor(data.length / vocabulary) }, (_, row) =>
    divergence(data, other, row * vocabulary, vocabulary),
  );
}

/** Σ p · (log p − log q), p and q the softmax of each. */
function divergence(a: Float32Array, b: Float32Array, start: number, count: number): number {
  const [sumA, sumB] = [logSumExp(a, start, count), logSumExp(b, start, count)];
  let sum = 0;
  for (let i = start; i < start + count; i++) {
    const logP = (a[i] ?? 0) - sumA;
    if (logP > -50) sum += Math.exp(logP) * (logP - ((b[i] ?? 0) - sumB));
  }
  return Math.max(0, sum);
}
