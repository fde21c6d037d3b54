import { openData } from '../data/open-data.ts';
import { chooseMetric } from '../metrics/choose.ts';
import { readKeys } from '../metrics/ctc-text.ts';
import { keptShare } from '../metrics/metric.ts';
import { type Interval, keptInterval, valueInterval } from '../statistics/interval.ts';
import { judge } from './judge.ts';
import { openJudged, type OpenJudged } from './open-judged.ts';

export interface EvalOptions {
  /** As `openData` reads it. */
  readonly data: string;
  /** Rules for a folder of pictures or sound. */
  readonly preprocess?: string | undefined;
  /** Default: by the data. */
  readonly metric?: string | undefined;
  /** Model or pack to compare with, run on the same samples in the same run. */
  readonly against?: string | undefined;
  /** Characters that the classes stand for. Default: the pack's. */
  readonly keys?: string | undefined;
  /** Default 'host'. */
  readonly board?: string | undefined;
  /** Default 1. */
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number | undefined) => void) | undefined;
}

/** What `flotilla eval --json` prints. */
export interface EvalReport {
  readonly metric: string;
  readonly samples: number;
  readonly value: number;
  /** Of `value`, at 95 %. Null where the samples cannot tell. */
  readonly interval: Interval | null;
  readonly against?: number;
  /** value / against, or the inverse where less is better. */
  readonly kept?: number;
  /** Of `kept`, at 95 %, samples paired. */
  readonly keptInterval?: Interval | null;
}

/**
 * Scores a model or pack on data, alone or beside another.
 * @throws {CompilerError} `compiler/data`, `compiler/metric`; what checkpoint, pack and runtime throw
 */
export async function evaluate(path: string, options: EvalOptions): Promise<EvalReport> {
  const opened: OpenJudged[] = [];
  try {
    const model = await openJudged(path, options);
    opened.push(model);
    const other = options.against === undefined ? undefined : await openJudged(options.against, options);
    if (other) opened.push(other);
    const data = await openData(options.data, { inputs: model.session.inputs, preprocess: options.preprocess });
    const keys = options.keys === undefined ? (model.keys ?? other?.keys) : await readKeys(options.keys);
    const metric = await chooseMetric(options.metric, data, keys);
    const judgeOptions = { signal: options.signal, progress: options.onProgress };
    // The one that is compared with comes first: it is the reference of metrics that need one.
    const { values, scores, samples } = await judge(metric, data, other ? [other, model] : [model], judgeOptions);
    const value = values.at(-1) ?? Number.NaN;
    const own = scores.at(-1) ?? [];
    const alone = { metric: metric.name, samples, value, interval: valueInterval(metric, own) };
    if (!other) return alone;
    const [against = Number.NaN] = values;
    const kept = keptShare(metric, value, against);
    return { ...alone, against, kept, keptInterval: keptInterval(metric, scores[0] ?? [], own) };
  } finally {
    for (const model of opened) await model.close();
  }
}
