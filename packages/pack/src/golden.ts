import { PackError } from './errors.ts';
import { decodeTensors, encodeTensors, type Fail } from './tensor-file.ts';

/** A tensor; row-major. The same shape as the runtime's, which may be passed in and gets these back. */
export type GoldenTensor =
  | { readonly dtype: 'float32'; readonly dims: readonly number[]; readonly data: Float32Array }
  | { readonly dtype: 'float64'; readonly dims: readonly number[]; readonly data: Float64Array }
  | { readonly dtype: 'float16' | 'uint16'; readonly dims: readonly number[]; readonly data: Uint16Array }
  | { readonly dtype: 'int8'; readonly dims: readonly number[]; readonly data: Int8Array }
  | { readonly dtype: 'uint8' | 'bool'; readonly dims: readonly number[]; readonly data: Uint8Array }
  | { readonly dtype: 'int16'; readonly dims: readonly number[]; readonly data: Int16Array }
  | { readonly dtype: 'int32'; readonly dims: readonly number[]; readonly data: Int32Array }
  | { readonly dtype: 'uint32'; readonly dims: readonly number[]; readonly data: Uint32Array }
  | { readonly dtype: 'int64'; readonly dims: readonly number[]; readonly data: BigInt64Array }
  | { readonly dtype: 'uint64'; readonly dims: readonly number[]; readonly data: BigUint64Array }
  | { readonly dtype: 'string'; readonly dims: readonly number[]; readonly data: readonly string[] };

export type GoldenTensors = { readonly [name: string]: GoldenTensor };

/** What a model must answer. For text: inputs are the prompt's token ids, outputs logits and the greedy answer's ids. */
export interface GoldenCase {
  readonly name: string;
  /** Of the pack's adapters, the one that answers. */
  readonly adapter?: string | undefined;
  readonly inputs: GoldenTensors;
  readonly outputs: GoldenTensors;
}

/**
 * Golden vectors as one safetensors file, so that any tool can look at them. Tensors are named `case/<i>/in/<name>` and
 * `case/<i>/out/<name>`; the cases' own names are metadata, and so are their adapters (`case/<i>/adapter`).
 * @throws {PackError} `pack/golden` for text tensors, or data that does not fill its dims
 */
export function writeGolden(cases: readonly GoldenCase[]): Uint8Array {
  const tensors = cases.flatMap(({ inputs, outputs }, index) => [
    ...Object.entries(inputs).map(([name, tensor]) => [`case/${index}/in/${name}`, tensor] as const),
    ...Object.entries(outputs).map(([name, tensor]) => [`case/${index}/out/${name}`, tensor] as const),
  ]);
  const metadata = cases.flatMap(({ name, adapter }, index) => [
    [`case/${index}`, name] as const,
    ...(adapter === undefined ? [] : [[`case/${index}/adapter`, adapter] as const]),
  ]);
  return encodeTensors({ metadata, tensors }, bad);
}

/**
 * Reads what {@link writeGolden} wrote, and nothing looser: cases are numbered from 0, and own every tensor.
 * @throws {PackError} `pack/golden`, naming the tensor
 */
export function readGolden(bytes: Uint8Array): readonly GoldenCase[] {
  const { metadata, tensors } = decodeTensors(bytes, bad);
  const cases = casesOf(metadata);
  for (const [key, tensor] of tensors) {
    const [, index, side, name] = /^case\/(0|[1-9]\d{0,5})\/(in|out)\/(.+)$/s.exec(key) ?? [];
    const found = cases[Number(index)];
    if (found === undefined || name === undefined) throw bad(`no case owns ${JSON.stringify(key.slice(0, 120))}`);
    (side === 'in' ? found.inputs : found.outputs)[name] = tensor;
  }
  return cases;
}

interface ReadCase extends GoldenCase {
  readonly inputs: Record<string, GoldenTensor>;
  readonly outputs: Record<string, GoldenTensor>;
}

function casesOf(metadata: readonly (readonly [string, string])[]): readonly ReadCase[] {
  const cases: ReadCase[] = [];
  for (const [key, text] of metadata) {
    const last = cases.at(-1);
    if (key === `case/${cases.length}`)
      cases.push({
        name: text,
        inputs: Object.create(null) as Record<string, GoldenTensor>,
        outputs: Object.create(null) as Record<string, GoldenTensor>,
      });
    else if (last && last.adapter === undefined && key === `case/${cases.length - 1}/adapter`)
      cases[cases.length - 1] = { ...last, adapter: text };
    else throw bad(`case ${cases.length} has no name`);
  }
  return cases;
}

const bad: Fail = (problem, options) => new PackError('pack/golden', `golden vectors: ${problem}`, options);
