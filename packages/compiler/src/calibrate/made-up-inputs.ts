import { type Graph, integers } from '@flotilla/onnx';
import type { Session, SessionInput, Tensors, TensorValue } from '@flotilla/runtime';
import { seededRandom } from './seeded-random.ts';

/** Lengths that are tried for free dimensions: the strides of images, then of audio. */
const lengths = [32, 64, 128, 256, 576, 1600, 4096] as const;
const mostElements = 1 << 24;

/**
 * Inputs for a model that came without data, each seen to run in it: seeded noise in −1…1, small whole numbers, free
 * dimensions given lengths until the model takes them. Two lengths and two batch sizes where it takes those, and for an
 * integer that the graph compares with constants (a sampling rate, a flag) every one of them: so that both branches of
 * an `If` run. Good enough to compare two graphs, never to calibrate. Empty where the model takes none of them.
 */
export async function suitableInputs(
  session: Pick<Session, 'inputs' | 'run'>,
  graph: Graph,
): Promise<readonly Tensors[]> {
  const { inputs } = session;
  const choices = integerChoices(inputs, graph);
  const random = seededRandom(7);
  const taken = async (sizes: Sizes, integer: Integers): Promise<Tensors | undefined> => {
    const feeds = makeUp(inputs, sizes, integer, random);
    return feeds && (await runs(session, feeds)) ? feeds : undefined;
  };
  for (const sizes of sizings()) {
    const first = await taken(sizes, choices[0] ?? noIntegers);
    if (!first) continue;
    const found = [first];
    const add = async (ways: Iterable<Sizes>, integer: Integers | undefined): Promise<void> => {
      for (const way of ways) {
        const feeds = await taken(way, integer ?? noIntegers);
        if (feeds) return void found.push(feeds);
      }
    };
    // Another branch may want another length.
    for (const integer of choices.slice(1)) await add([sizes, ...sizings()], integer);
    const [batch, length] = [2, 2 * sizes.length];
    if (inputs.some(({ dims }) => dims.some(isFree)))
      await add(
        [
          { ...sizes, batch, length },
          { ...sizes, length },
          { ...sizes, batch },
        ],
        choices[0],
      );
    return found;
  }
  return [];
}

/** How free dimensions are filled: the first axis with `batch`, as any axis of the same name; others as the shape says. */
interface Sizes {
  readonly batch: number;
  readonly length: number;
  /** all: every one; first: of the first input alone, others take `batch`; cache: none in inputs of four axes. */
  readonly shape: 'all' | 'first' | 'cache';
}

function* sizings(): Iterable<Sizes> {
  for (const length of lengths)
    for (const shape of ['all', 'first', 'cache'] as const) yield { batch: 1, length, shape };
}

const isFree = (dim: number | string): boolean => typeof dim === 'string' || dim < 0;

function sizesOf(input: SessionInput, index: number, sizes: Sizes, batchNames: ReadonlySet<string>): number[] {
  return input.dims.map((dim, axis) => {
    if (typeof dim === 'number' && dim >= 0) return dim;
    if (axis === 0 || (typeof dim === 'string' && batchNames.has(dim))) return sizes.batch;
    if (sizes.shape === 'first' && index > 0) return sizes.batch;
    if (sizes.shape === 'cache' && input.dims.length === 4) return 0;
    return sizes.length;
  });
}

type Integers = ReadonlyMap<string, number>;
const noIntegers: Integers = new Map();

/** Values for scalar integer inputs: each constant that the graph compares one with, and one that is none of them. */
function integerChoices(inputs: readonly SessionInput[], graph: Graph): readonly Integers[] {
  const choices: Integers[] = [];
  for (const { name, dtype, dims } of inputs) {
    if (!/^int(32|64)$/.test(dtype) || dims.some((dim) => dim !== 1)) continue;
    const compared = comparedWith(graph, name);
    const [most = 0] = compared.toSorted((a, b) => b - a);
    for (const value of compared.length === 0 ? [] : [...compared, Math.ceil(most / 2)])
      choices.push(new Map([[name, value]]));
  }
  return choices;
}

const comparisons = new Set(['Equal', 'Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual']);
const carriers = new Set(['Identity', 'Cast', 'Squeeze', 'Unsqueeze', 'Reshape']);

function comparedWith(graph: Graph, input: string): number[] {
  const found = new Set<number>();
  const seen = new Set<string>();
  const values = [input];
  for (let value = values.pop(); value !== undefined; value = values.pop()) {
    if (seen.has(value)) continue;
    seen.add(value);
    for (const node of graph.consumers(value)) {
      if (carriers.has(node.opType)) values.push(...node.outputs);
      if (!comparisons.has(node.opType)) continue;
      for (const name of node.inputs) {
        const tensor = name === value ? undefined : node.graph.constant(name);
        if (tensor && /^int(32|64)$/.test(tensor.dtype) && tensor.dims.every((dim) => dim === 1))
          found.add(integers(tensor)[0] ?? 0);
      }
    }
  }
  return [...found];
}

function makeUp(
  inputs: readonly SessionInput[],
  sizes: Sizes,
  integer: Integers,
  random: () => number,
): Tensors | undefined {
  const batchNames = new Set(inputs.flatMap(({ dims: [first] }) => (typeof first === 'string' ? [first] : [])));
  // What a file calls `?` or nothing is no name: two such dimensions need not be equal.
  for (const name of ['', '?']) batchNames.delete(name);
  const feeds: { [name: string]: TensorValue } = {};
  for (const [index, input] of inputs.entries()) {
    const dims = sizesOf(input, index, sizes, batchNames);
    const size = dims.reduce((product, dim) => product * dim, 1);
    const tensor = size > mostElements ? undefined : noise(input.dtype, dims, size, random, integer.get(input.name));
    if (!tensor) return undefined;
    feeds[input.name] = tensor;
  }
  return feeds;
}

function noise(
  dtype: string,
  dims: readonly number[],
  length: number,
  random: () => number,
  given: number | undefined,
): TensorValue | undefined {
  const whole = (below: number) => () => given ?? Math.floor(random() * below);
  const real = () => random() * 2 - 1;
  switch (dtype) {
    case 'int64':
      return { dtype, dims, data: BigInt64Array.from({ length }, () => BigInt(whole(2)())) };
    case 'int32':
      return { dtype, dims, data: Int32Array.from({ length }, whole(2)) };
    case 'int8':
      return { dtype, dims, data: Int8Array.from({ length }, () => whole(256)() - 128) };
    case 'uint8':
      return { dtype, dims, data: Uint8Array.from({ length }, whole(256)) };
    case 'bool':
      return { dtype, dims, data: new Uint8Array(length).fill(1) };
    case 'float64':
      return { dtype, dims, data: Float64Array.from({ length }, real) };
    case 'float32':
      return { dtype, dims, data: Float32Array.from({ length }, real) };
    case 'float16':
      // ±(1 to 2): sign, exponent 15, ten bits of fraction.
      return {
        dtype,
        dims,
        data: Uint16Array.from({ length }, () => (random() < 0.5 ? 0x8000 : 0) | 0x3c00 | (random() * 1024)),
      };
    default:
      return undefined;
  }
}

async function runs(session: Pick<Session, 'run'>, feeds: Tensors): Promise<boolean> {
  try {
    await session.run(feeds);
    return true;
  } catch {
    return false;
  }
}
