import { cloneModel, inferTypes, type Model, tensorFromInts } from '@flotilla/onnx';
import { QuantError, RangeHistogram } from '@flotilla/quant';
import type { Session, Tensors, TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import type { PassContext } from '../pass.ts';
import type { Calibration } from './calibration.ts';
import { Probe } from './probe.ts';

export interface ObserveOptions {
  /** Samples to run. */
  readonly most: number;
  /** See `RangeHistogram`. */
  readonly averaging?: number | undefined;
}

/** Elements that are counted of a value over all samples, about; that leaves 250 in the tails that 99.95 % cuts off. */
const countedElements = 1 << 20;
const fewestCounted = 1 << 14;
const mostCounted = 1 << 17;

/**
 * Histograms of the named float values over the first samples. Ends are exact; of large values evenly spaced elements are
 * counted, as many as `countedElements` asks for. Ends are found and elements picked where the model runs: what is
 * fetched is small, and the model's own tensors are free to go as soon as they were read.
 * @throws {CompilerError} `compiler/calibration`, naming the sample
 */
export async function observe(
  model: Model,
  values: readonly string[],
  context: Pick<PassContext, 'samples' | 'open' | 'signal' | 'progress'>,
  { most, averaging }: ObserveOptions,
): Promise<Calibration> {
  const histograms = new Map<string, RangeHistogram>();
  const add = (name: string, seen: Seen, sample: number): void => {
    let histogram = histograms.get(name);
    if (!histogram) histograms.set(name, (histogram = new RangeHistogram(averaging)));
    record(histogram, name, seen, sample);
  };
  const probe = cloneModel(model);
  const inputs = values.filter((value) => model.graph.isInput(value));
  const limit = Math.max(fewestCounted, Math.min(mostCounted, Math.ceil(countedElements / most)));
  const measured = addMeasurements(
    probe,
    values.filter((value) => !model.graph.isInput(value)),
    limit,
  );
  // Layouts and fusions that the other levels bring are undone again for what is measured.
  const session = measured.length > 0 ? await context.open(probe, { optimization: 'basic' }) : undefined;
  let count = 0;
  try {
    for await (const feeds of context.samples?.() ?? []) {
      context.signal?.throwIfAborted();
      for (const name of inputs) if (isFloats(feeds[name])) add(name, { values: feeds[name] }, count);
      const found = session ? await runSample(session, feeds, count) : {};
      for (const { value, names } of measured) add(value, seenIn(found, names), count);
      context.progress(++count, most);
      if (count === most) break;
    }
  } finally {
    await session?.close();
  }
  if (count === 0)
    throw new CompilerError('compiler/calibration', 'the calibration set is empty', {
      hint: 'give --data with samples',
    });
  return { samples: count, histogram: (value) => histograms.get(value) };
}

type Floats = Extract<TensorValue, { dtype: 'float32' }>;

const isFloats = (tensor: TensorValue | undefined): tensor is Floats => tensor?.dtype === 'float32';

/** All of a value, or some of it with what is known of all. */
interface Seen {
  readonly values: Floats | undefined;
  readonly size?: TensorValue | undefined;
  readonly least?: TensorValue | undefined;
  readonly most?: TensorValue | undefined;
}

interface Measured {
  readonly value: string;
  readonly names: { readonly picked: string; readonly size: string; readonly least: string; readonly most: string };
}

/** Leaves of the model nothing but the measurements of its values. */
function addMeasurements(model: Model, values: readonly string[], limit: number): readonly Measured[] {
  const { graph } = model;
  const types = inferTypes(graph);
  const probe = new Probe(graph);
  const whole = (value: number) => probe.constant(tensorFromInts('int64', [1], [value]));
  const constants = { all: whole(-1), first: whole(0), last: whole(2 ** 31), limit: whole(2 * limit), one: whole(1) };
  const measured: Measured[] = [];
  for (const value of values) {
    if ((types.get(value)?.dtype ?? 'float32') !== 'float32') continue;
    const flat = probe.add('Reshape', [value, constants.all]);
    const size = probe.add('Shape', [flat]);
    // Odd, so that the step and a row's length, mostly even, do not always meet in the same columns.
    const half = probe.add('Div', [size, constants.limit]);
    const step = probe.add('Add', [probe.add('Add', [half, half]), constants.one]);
    const picked = probe.add('Slice', [flat, constants.first, constants.last, constants.first, step]);
    // Kept dimensions: without them a value of no element is an error.
    const least = probe.add('ReduceMin', [flat], { keepdims: { int: 1 } });
    const most = probe.add('ReduceMax', [flat], { keepdims: { int: 1 } });
    measured.push({ value, names: { picked, size, least, most } });
  }
  const names = measured.flatMap((entry) => Object.values(entry.names));
  graph.setOutputs(names.map((name) => ({ name, type: undefined })));
  graph.removeDead();
  return measured;
}

function seenIn(found: Tensors, names: Measured['names']): Seen {
  const values = found[names.picked];
  const [size, least, most] = [found[names.size], found[names.least], found[names.most]];
  return { values: isFloats(values) ? values : undefined, size, least, most };
}

function record(histogram: RangeHistogram, name: string, { values, size, least, most }: Seen, sample: number): void {
  if (!values) return;
  const count = size && Number(size.data[0]);
  try {
    // What was picked is looked at first: it names the element that is not finite.
    if (count === undefined || count === values.data.length) histogram.observe(values.data);
    else histogram.observe(values.data, { count, min: Number(least?.data[0]), max: Number(most?.data[0]) });
  } catch (cause) {
    if (!(cause instanceof QuantError)) throw cause;
    throw new CompilerError('compiler/calibration', `sample ${sample}: in ${name}, ${cause.message}`, {
      where: name,
      hint: 'mend or remove the sample, or mend the model',
      cause,
    });
  }
}

async function runSample(session: Session, feeds: Tensors, sample: number): Promise<Tensors> {
  try {
    return await session.run(feeds);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CompilerError('compiler/calibration', `sample ${sample} does not run: ${reason}`, { cause });
  }
}
