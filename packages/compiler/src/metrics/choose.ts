import { CompilerError } from '../errors.ts';
import type { DataSet } from '../data/data-set.ts';
import { nearest } from '../nearest.ts';
import { boxF1 } from './box-f1.ts';
import { cosine } from './cosine.ts';
import { ctcText } from './ctc-text.ts';
import { exactMatch } from './exact-match.ts';
import type { Metric } from './metric.ts';
import { moduleMetric } from './module-metric.ts';
import { perplexity } from './perplexity.ts';
import { top1 } from './top1.ts';

const names = ['top1', 'ctc-text', 'perplexity', 'exact-match', 'box-f1', 'cosine'] as const;

/**
 * The metric of that name or `.mjs` file. Without a name: perplexity for texts (exact-match where they have completions),
 * ctc-text for labelled samples with keys, top1 for labelled ones, else cosine to fp32.
 * @throws {CompilerError} `compiler/metric` for an unknown name, or one that does not fit the data
 */
export async function chooseMetric(
  name: string | undefined,
  data: DataSet,
  keys: readonly string[] | undefined,
): Promise<Metric> {
  const metric = await byName(name ?? (await defaultName(data, keys)), keys);
  if (metric.kind === data.kind) return metric;
  const message = `${metric.name} judges ${metric.kind} data, and ${data.path} holds ${data.kind} data`;
  throw new CompilerError('compiler/metric', message);
}

async function byName(name: string, keys: readonly string[] | undefined): Promise<Metric> {
  switch (name) {
    case 'top1':
      return top1;
    case 'cosine':
      return cosine;
    case 'box-f1':
      return boxF1;
    case 'perplexity':
      return perplexity;
    case 'exact-match':
      return exactMatch;
    case 'ctc-text': {
      if (keys) return ctcText(keys);
      throw new CompilerError('compiler/metric', 'ctc-text needs the characters that the classes stand for', {
        hint: 'give the keys file, one character a line',
      });
    }
    default:
      if (name.endsWith('.mjs')) return moduleMetric(name);
      throw new CompilerError('compiler/metric', `--metric ${name} is unknown${nearest(name, names)}`, {
        hint: `one of ${names.join(', ')}, or an .mjs file`,
      });
  }
}

async function defaultName(data: DataSet, keys: readonly string[] | undefined): Promise<string> {
  if (data.kind === 'text') {
    for await (const { completion } of data.texts()) return completion === undefined ? 'perplexity' : 'exact-match';
    return 'perplexity';
  }
  for await (const { label } of data.samples()) {
    if (label === undefined) return 'cosine';
    return keys ? 'ctc-text' : 'top1';
  }
  return 'cosine';
}
