import { cloneModel, type Model } from '@flotilla/onnx';
import { QuantError, RangeHistogram } from '@flotilla/quant';
import type { Session, Tensors } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import type { PassContext } from '../pass.ts';
import type { Calibration } from './calibration.ts';

/** Activations fetched at once; more and the run is repeated for the rest. */
const budgetBytes = 256 << 20;

/**
 * Histograms of the named values over the first `most` samples.
 * @throws {CompilerError} `compiler/calibration`, naming the sample
 */
export async function observe(
  model: Model,
  values: readonly string[],
  context: Pick<PassContext, 'samples' | 'open' | 'signal' | 'progress'>,
  most: number,
): Promise<Calibration> {
  const { graph } = model;
  const histograms = new Map<string, RangeHistogram>();
  const inputs = values.filter((value) => graph.isInput(value));
  const inner = values.filter((value) => !graph.isInput(value));
  const probe = cloneModel(model);
  const extra = inner.filter((value) => !graph.isOutput(value));
  probe.graph.setOutputs([...probe.graph.outputs, ...extra.map((name) => ({ name, type: undefined }))]);
  const session = await context.open(probe);
  let count = 0;
  let groups: readonly (readonly string[])[] = [inner];
  try {
    for await (const feeds of context.samples?.() ?? []) {
      context.signal?.throwIfAborted();
      for (const name of inputs) record(histograms, name, feeds, count);
      let bytes = 0;
      for (const group of groups) {
        const fetched = await runSample(session, feeds, group, count);
        for (const name of group) bytes += record(histograms, name, fetched, count);
      }
      // The first sample tells how much there is to fetch.
      if (count === 0 && bytes > budgetBytes) groups = split(inner, Math.ceil(bytes / budgetBytes));
      context.progress(++count, most);
      if (count === most) break;
    }
  } finally {
    await session.close();
  }
  if (count === 0)
    throw new CompilerError('compiler/calibration', 'the calibration set is empty', {
      hint: 'give --data with samples',
    });
  return { samples: count, histogram: (value) => histograms.get(value) };
}

function record(histograms: Map<string, RangeHistogram>, name: string, tensors: Tensors, sample: number): number {
  const tensor = tensors[name];
  if (tensor?.dtype !== 'float32' || tensor.data.length === 0) return 0;
  let histogram = histograms.get(name);
  if (!histogram) histograms.set(name, (histogram = new RangeHistogram()));
  try {
    histogram.observe(tensor.data);
  } catch (cause) {
    if (!(cause instanceof QuantError)) throw cause;
    throw new CompilerError('compiler/calibration', `sample ${sample}: in ${name}, ${cause.message}`, {
      where: name,
      cause,
    });
  }
  return tensor.data.byteLength;
}

async function runSample(
  session: Session,
  feeds: Tensors,
  fetches: readonly string[],
  sample: number,
): Promise<Tensors> {
  if (fetches.length === 0) return {};
  try {
    return await session.run(feeds, { fetches });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CompilerError('compiler/calibration', `sample ${sample} does not run: ${reason}`, { cause });
  }
}

function split(values: readonly string[], parts: number): string[][] {
  return Array.from({ length: parts }, (_, part) => values.filter((_value, index) => index % parts === part));
}
