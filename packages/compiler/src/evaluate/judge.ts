import type { LoadedSession, TextModel } from '@flotilla/runtime';
import type { DataSet } from '../data/data-set.ts';
import { CompilerError } from '../errors.ts';
import type { Metric } from '../metrics/metric.ts';

/** A loaded model on its way through an evaluation. */
export interface Judged {
  readonly session: LoadedSession;
  /** Undefined for a model of tensors. */
  readonly text: TextModel | undefined;
}

export interface Judgement {
  /** One a model, in their order. */
  readonly values: readonly number[];
  readonly samples: number;
}

export interface JudgeOptions {
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number | undefined) => void) | undefined;
}

/**
 * Runs the same samples through all models, side by side, and scores each. The first one is the reference.
 * @throws {CompilerError} `compiler/data`, `compiler/metric`; what the runtime throws
 */
export async function judge(
  metric: Metric,
  data: DataSet,
  models: readonly [Judged, ...Judged[]],
  options: JudgeOptions = {},
): Promise<Judgement> {
  if (metric.kind === 'text' && data.kind === 'text') {
    const total = data.length * models.length;
    const values: number[] = [];
    let samples = 0;
    for (const [index, { text }] of models.entries()) {
      if (!text) throw new CompilerError('compiler/metric', `${metric.name} needs a language model with its tokenizer`);
      options.progress?.(index * data.length, total);
      const judged = await metric.judge(text, data.texts(), { signal: options.signal });
      values.push(judged.value);
      samples = judged.samples;
    }
    options.progress?.(total, total);
    return { values, samples };
  }
  if (metric.kind === 'tensor' && data.kind === 'tensor') {
    const scores = models.map(() => metric.start());
    let samples = 0;
    for await (const sample of data.samples()) {
      options.signal?.throwIfAborted();
      const outputs = await Promise.all(
        models.map(({ session }) => session.run(sample.inputs, { signal: options.signal })),
      );
      for (const [i, score] of scores.entries()) score.add(outputs[i] ?? {}, sample, outputs[0] ?? {});
      samples += 1;
      options.progress?.(samples, data.length);
    }
    if (samples === 0) throw new CompilerError('compiler/data', `${data.path} holds no sample`, { where: data.path });
    return { values: scores.map((score) => score.value()), samples };
  }
  throw new CompilerError('compiler/metric', `${metric.name} does not judge the ${data.kind} data of ${data.path}`);
}
