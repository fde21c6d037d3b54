import type { LoadedSession, Tensors, TextModel } from '@flotilla/runtime';
import type { DataSet } from '../data/data-set.ts';
import { CompilerError } from '../errors.ts';
import { type Metric, metricValue, type SampleScore } from '../metrics/metric.ts';

/** A loaded model on its way through an evaluation. */
export interface Judged {
  readonly session: LoadedSession;
  /** Undefined for a model of tensors. */
  readonly text: TextModel | undefined;
}

export interface Judgement {
  /** One a model, in their order. */
  readonly values: readonly number[];
  /** Per model, one a sample: what intervals are drawn from. */
  readonly scores: readonly (readonly SampleScore[])[];
  /** Samples of tensors; prompts, or predicted tokens, of a language model. */
  readonly samples: number;
}

export interface JudgeOptions {
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number | undefined) => void) | undefined;
  /** Sees every sample's outputs, one a model, in their order. Tensors only. */
  readonly watch?: ((outputs: readonly Tensors[]) => void) | undefined;
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
  const scores = await scoreAll(metric, data, models, options);
  const values = scores.map((of) => metricValue(metric, of));
  if (values.some(Number.isNaN)) {
    const message = `${metric.name} finds nothing to count in ${data.path}`;
    throw new CompilerError('compiler/metric', message, { where: data.path, hint: 'give data that holds some' });
  }
  const [first = []] = scores;
  const samples = metric.kind === 'text' ? first.reduce((sum, { weight }) => sum + weight, 0) : first.length;
  return { values, scores, samples };
}

async function scoreAll(
  metric: Metric,
  data: DataSet,
  models: readonly [Judged, ...Judged[]],
  { signal, progress, watch }: JudgeOptions,
): Promise<readonly (readonly SampleScore[])[]> {
  if (metric.kind === 'text' && data.kind === 'text') {
    const total = data.length * models.length;
    const scores: (readonly SampleScore[])[] = [];
    for (const [index, { text }] of models.entries()) {
      if (!text) throw new CompilerError('compiler/metric', `${metric.name} needs a language model with its tokenizer`);
      progress?.(index * data.length, total);
      scores.push(await metric.judge(text, data.texts(), { signal }));
    }
    progress?.(total, total);
    return scores;
  }
  if (metric.kind === 'tensor' && data.kind === 'tensor') {
    const scores = models.map((): SampleScore[] => []);
    let samples = 0;
    for await (const sample of data.samples()) {
      signal?.throwIfAborted();
      const outputs = await Promise.all(models.map(({ session }) => session.run(sample.inputs, { signal })));
      for (const [i, of] of scores.entries()) of.push(metric.score(outputs[i] ?? {}, sample, outputs[0] ?? {}));
      watch?.(outputs);
      samples++;
      progress?.(samples, data.length);
    }
    if (samples === 0) throw new CompilerError('compiler/data', `${data.path} holds no sample`, { where: data.path });
    return scores;
  }
  throw new CompilerError('compiler/metric', `${metric.name} does not judge the ${data.kind} data of ${data.path}`);
}
