import { CompilerError } from '../errors.ts';
import type { TextMetric } from './metric.ts';

/** Share of prompts whose greedy completion, trimmed, is the expected one. */
export const exactMatch: TextMetric = {
  kind: 'text',
  name: 'exact-match',
  higherIsBetter: true,
  async judge(model, texts, { signal, progress }) {
    const prompts: string[] = [];
    const expected: string[] = [];
    let longest = 0;
    for await (const { name, text, completion } of texts) {
      if (completion === undefined) {
        throw new CompilerError('compiler/data', `${name} has no completion to compare with`, { where: name });
      }
      prompts.push(text);
      expected.push(completion.trim());
      longest = Math.max(longest, model.tokenizer.encode(completion).length);
    }
    // An answer longer than the longest right one is wrong whatever comes after.
    const answers = await model.generateAll(prompts, { maxTokens: longest + 8, signal });
    progress?.(prompts.length);
    return answers.map(({ text }, i) => ({ sum: Number(text.trim() === expected[i]), weight: 1 }));
  },
};
