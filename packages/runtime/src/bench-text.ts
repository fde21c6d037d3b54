import { RuntimeError } from './errors.ts';
import { LatencyRecorder } from './latency.ts';
import type { TextModel } from './text-model.ts';

export interface BenchTextOptions {
  /** Answered in turn, each afresh. */
  readonly prompts: readonly string[];
  /** How long to measure; the answer under way is written to its end. Default 3. */
  readonly seconds?: number | undefined;
  /** Of each answer. Default 32. */
  readonly maxTokens?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface TextMeasurement {
  /** Of a prompt, on average. */
  readonly promptTokens: number;
  /** From the prompt to its first token. */
  readonly firstToken: LatencyRecorder;
  /** Of each further token. */
  readonly token: LatencyRecorder;
  /** Further tokens by their time. */
  readonly tokensPerSecond: number;
  /** Of the time, what passed outside of ONNX Runtime. */
  readonly overheadShare: number;
  readonly seconds: number;
}

/** Measures greedy answers, the first of which only warms up. */
export async function benchText(text: TextModel, options: BenchTextOptions): Promise<TextMeasurement> {
  const { prompts, seconds = 3, maxTokens = 32, signal } = options;
  if (prompts.length === 0) throw new RuntimeError('runtime/input', 'no prompt to measure with');
  const generate = (i: number, onToken?: () => void) =>
    text.generate(prompts[i % prompts.length] ?? '', { maxTokens, reusePrefix: false, signal, onToken });
  await generate(0);
  const firstToken = new LatencyRecorder();
  const token = new LatencyRecorder();
  const sums = { promptTokens: 0, tokens: 0, tokenMs: 0, overhead: 0 };
  const start = performance.now();
  let spentMs = 0;
  let turn = 0;
  for (; spentMs < seconds * 1000; turn++) {
    let last: number | undefined;
    const made = await generate(turn, () => {
      const now = performance.now();
      if (last !== undefined) token.record((now - last) * 1000);
      last = now;
    });
    firstToken.record(made.timeToFirstTokenMs * 1000);
    sums.promptTokens += made.promptTokens;
    sums.overhead += made.overheadShare;
    if (made.tokensPerSecond !== null) {
      sums.tokens += made.tokens - 1;
      sums.tokenMs += ((made.tokens - 1) * 1000) / made.tokensPerSecond;
    }
    spentMs = performance.now() - start;
  }
  return {
    promptTokens: sums.promptTokens / turn,
    firstToken,
    token,
    tokensPerSecond: sums.tokenMs > 0 ? (sums.tokens * 1000) / sums.tokenMs : 0,
    overheadShare: sums.overhead / turn,
    seconds: spentMs / 1000,
  };
}
