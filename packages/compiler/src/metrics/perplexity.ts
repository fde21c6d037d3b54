import { CompilerError } from '../errors.ts';
import { logSumExp } from './log-softmax.ts';
import type { SampleScore, TextMetric } from './metric.ts';
import { tokenWindows } from './token-windows.ts';

/**
 * exp of the mean cross-entropy of the next token. Protocol: the beginning-of-text token and the tokens of each non-empty
 * line with its newline, all lines joined, cut into windows of 129 tokens at stride 128, empty cache per window, the rest
 * dropped (one short window where the whole text is shorter). A window is a sample.
 */
export const perplexity: TextMetric = {
  kind: 'text',
  name: 'perplexity',
  higherIsBetter: false,
  finish: Math.exp,
  async judge(model, texts, { signal, progress }) {
    const windows = await tokenWindows(model, texts);
    if (windows.length === 0) throw new CompilerError('compiler/data', 'too little text for a perplexity');
    const scores: SampleScore[] = [];
    for (const ids of windows) {
      signal?.throwIfAborted();
      const { data, dims } = await model.logits(ids.slice(0, -1));
      const vocabulary = dims.at(-1) ?? 1;
      let sum = 0;
      for (const [i, target] of ids.slice(1).entries()) {
        sum += logSumExp(data, i * vocabulary, vocabulary) - (data[i * vocabulary + target] ?? 0);
      }
      scores.push({ sum, weight: ids.length - 1 });
      progress?.(scores.length);
    }
    return scores;
  },
};
