import { CompilerError } from '../errors.ts';
import type { TextMetric } from './metric.ts';

/** Predictions per window. Windows overlap by one token: the last of one is the first of the next. */
const PREDICTIONS = 128;

/**
 * exp of the mean cross-entropy of the next token. Protocol: the beginning-of-text token and the tokens of each non-empty
 * line with its newline, all lines joined, cut into windows of 129 tokens at stride 128, empty cache per window, the rest
 * dropped (one short window where the whole text is shorter).
 */
export const perplexity: TextMetric = {
  kind: 'text',
  name: 'perplexity',
  higherIsBetter: false,
  async judge(model, texts, { signal, progress }) {
    const ids: number[] = [];
    for await (const { text, completion } of texts) {
      for (const id of model.tokenizer.encode(`${text}${completion ?? ''}\n`)) ids.push(id);
    }
    if (ids.length < 2) throw new CompilerError('compiler/data', 'too little text for a perplexity');
    const size = Math.min(PREDICTIONS, ids.length - 1);
    let sum = 0;
    let count = 0;
    for (let start = 0; start + size < ids.length; start += size) {
      signal?.throwIfAborted();
      const { data, dims } = await model.logits(ids.slice(start, start + size));
      const vocabulary = dims.at(-1) ?? 1;
      for (let i = 0; i < size; i++) sum += crossEntropy(data, i * vocabulary, vocabulary, ids[start + i + 1] ?? 0);
      count += size;
      progress?.(count);
    }
    return { value: Math.exp(sum / count), samples: count };
  },
};

/** −log softmax(logits)[target], with the largest logit taken out first. */
function crossEntropy(logits: Float32Array, start: number, count: number, target: number): number {
  let most = -Infinity;
  for (let i = start; i < start + count; i++) most = Math.max(most, logits[i] ?? 0);
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += Math.exp((logits[i] ?? 0) - most);
  return Math.log(sum) + most - (logits[start + target] ?? 0);
}
