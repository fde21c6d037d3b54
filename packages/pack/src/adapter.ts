import { PackError } from './errors.ts';
import type { GoldenTensor } from './golden.ts';
import { decodeTensors, encodeTensors, type Fail } from './tensor-file.ts';

/** What an adapter adds to one layer: `y[begin..end] = gain · y[begin..end] + B (A x) + shift`. */
export interface AdapterPart {
  /** The layer's output in the portable graph. */
  readonly output: string;
  /** Of the whole layer. */
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Outputs that the part changes: several modules may have been fused into one layer. */
  readonly begin: number;
  readonly end: number;
  readonly rank: number;
  /** float16 `[rank, inFeatures]`. */
  readonly a: Uint16Array;
  /** float16 `[end − begin, rank]`, the adapter's scale in it. */
  readonly b: Uint16Array;
  /** float16 `[end − begin]`; undefined: 1. */
  readonly gain: Uint16Array | undefined;
  /** float16 `[end − begin]`; undefined: 0. */
  readonly shift: Uint16Array | undefined;
}

/** An adapter that lies beside a base, as a file of its own. */
export interface PackAdapter {
  readonly name: string;
  /** Digest of the portable graph whose values it names. */
  readonly model: string;
  /** Sorted by output, then by begin. */
  readonly parts: readonly AdapterPart[];
}

const FORMAT = 'flotilla-adapter/1';
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/**
 * An adapter as one safetensors file: the factors `<part>/a`, `/b`, `/gain`, `/shift`, and in the metadata where they go.
 * @throws {PackError} `pack/adapter` for a name that is no file's, or factors that do not fill their shapes
 */
export function writeAdapter({ name, model, parts }: PackAdapter): Uint8Array {
  if (!NAME.test(name)) throw bad(`its name is ${JSON.stringify(name.slice(0, 80))}`);
  const places = parts.map(({ output, inFeatures, outFeatures, begin, end, rank }) => [
    output,
    inFeatures,
    outFeatures,
    begin,
    end,
    rank,
  ]);
  const tensors = parts.flatMap(({ a, b, gain, shift, ...place }, i) => {
    const count = place.end - place.begin;
    return [
      [`${i}/a`, half([place.rank, place.inFeatures], a)] as const,
      [`${i}/b`, half([count, place.rank], b)] as const,
      ...(gain ? [[`${i}/gain`, half([count], gain)] as const] : []),
      ...(shift ? [[`${i}/shift`, half([count], shift)] as const] : []),
    ];
  });
  const metadata = Object.entries({ format: FORMAT, name, model, parts: JSON.stringify(places) });
  return encodeTensors({ metadata, tensors }, bad);
}

/** Reads what {@link writeAdapter} wrote. @throws {PackError} `pack/adapter` */
export function readAdapter(bytes: Uint8Array): PackAdapter {
  const { metadata, tensors } = decodeTensors(bytes, bad);
  const { format, name = '', model = '', parts = '' } = Object.fromEntries(metadata);
  if (format !== FORMAT) throw bad(`its format is not ${FORMAT}`);
  if (!NAME.test(name)) throw bad('it has no name');
  const left = new Map(tensors);
  const take = (key: string, dims: readonly number[]): Uint16Array | undefined => {
    const tensor = left.get(key);
    left.delete(key);
    if (tensor === undefined) return undefined;
    if (tensor.dtype !== 'float16' || tensor.dims.join() !== dims.join())
      throw bad(`${key} is ${tensor.dtype} [${tensor.dims.join(', ')}], not float16 [${dims.join(', ')}]`);
    return tensor.data;
  };
  const read = placesOf(parts).map((place, i): AdapterPart => {
    const count = place.end - place.begin;
    const a = take(`${i}/a`, [place.rank, place.inFeatures]);
    const b = take(`${i}/b`, [count, place.rank]);
    if (!a || !b) throw bad(`the factors of part ${i} are missing`);
    return { ...place, a, b, gain: take(`${i}/gain`, [count]), shift: take(`${i}/shift`, [count]) };
  });
  const [unknown] = left.keys();
  if (unknown !== undefined) throw bad(`no part owns ${JSON.stringify(unknown.slice(0, 120))}`);
  return { name, model, parts: read };
}

type Place = Pick<AdapterPart, 'output' | 'inFeatures' | 'outFeatures' | 'begin' | 'end' | 'rank'>;

function placesOf(text: string): readonly Place[] {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (cause) {
    throw bad('its parts are not JSON', { cause });
  }
  if (!Array.isArray(list)) throw bad('its parts are not a list');
  return list.map((part: unknown, i) => {
    const [output, ...sizes] = Array.isArray(part) && part.length === 6 ? (part as readonly unknown[]) : [];
    const isSize = (size: unknown): size is number => Number.isSafeInteger(size) && Number(size) >= 0;
    if (typeof output !== 'string' || !sizes.every(isSize)) throw bad(`part ${i} is no place in a graph`);
    const [inFeatures = 0, outFeatures = 0, begin = 0, end = 0, rank = 0] = sizes;
    if (rank < 1 || begin >= end || end > outFeatures)
      throw bad(`part ${i} has rank ${rank} for outputs ${begin} to ${end} of ${outFeatures}`);
    return { output, inFeatures, outFeatures, begin, end, rank };
  });
}

function half(dims: readonly number[], data: Uint16Array): GoldenTensor {
  return { dtype: 'float16', dims, data };
}

const bad: Fail = (problem, options) => new PackError('pack/adapter', `adapter: ${problem}`, options);
