import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Tensors } from '@flotilla/runtime';
import type { Sample } from '../data/data-set.ts';
import { CompilerError } from '../errors.ts';
import type { TensorMetric } from './metric.ts';

type Judge = (outputs: Tensors, sample: Sample, reference: Tensors) => unknown;

/**
 * A user's metric: a module whose default export is `(outputs, sample, reference) => number`, averaged over the samples.
 * More is better unless it exports `higherIsBetter = false`.
 * @throws {CompilerError} `compiler/metric`, also for what the function throws
 */
export async function moduleMetric(path: string): Promise<TensorMetric> {
  const module = await load(path);
  const { default: judge, higherIsBetter } = module;
  if (typeof judge !== 'function') throw metricError(path, 'has no function as its default export');
  return {
    kind: 'tensor',
    name: path,
    higherIsBetter: higherIsBetter !== false,
    score: (outputs, sample, reference) => ({
      sum: call(judge as Judge, path, outputs, sample, reference),
      weight: 1,
    }),
  };
}

function call(judge: Judge, path: string, outputs: Tensors, sample: Sample, reference: Tensors): number {
  let value: unknown;
  try {
    value = judge(outputs, sample, reference);
  } catch (cause) {
    throw metricError(path, `threw on ${sample.name}: ${messageOf(cause)}`, cause);
  }
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (value instanceof Promise) {
    value.catch(() => {}); // nobody waits for it: what it throws must not end the process
    throw metricError(path, `gave a promise for ${sample.name}: a metric returns its number at once`);
  }
  throw metricError(path, `gave ${String(value)} for ${sample.name}, not a number`);
}

async function load(path: string): Promise<{ readonly default?: unknown; readonly higherIsBetter?: unknown }> {
  try {
    return (await import(pathToFileURL(resolve(path)).href)) as { default?: unknown };
  } catch (cause) {
    throw metricError(path, `cannot be loaded: ${messageOf(cause)}`, cause);
  }
}

function messageOf(cause: unknown): string {
  const message = (cause instanceof Error ? cause.message : String(cause)).split('\n', 1)[0] ?? '';
  return message.replace(/ imported from .*$/, '');
}

function metricError(path: string, what: string, cause?: unknown): CompilerError {
  return new CompilerError('compiler/metric', `${path} ${what}`, { where: path, cause });
}
