import { BRANCH_PREFIX, type Branch } from '@flotilla/lowering';
import { type AdapterPart, type Pack, type PackAdapter, readAdapter } from '@flotilla/pack';
import { RuntimeError } from './errors.ts';
import { halfToNumber } from './half.ts';
import type { SessionInput, Tensors, TensorValue } from './types.ts';

/**
 * The adapters that lie beside a pack's model, as they were packed.
 * @throws {RuntimeError} `runtime/adapter` for one of another model, or two of one name; {PackError} `pack/adapter`
 */
export async function packAdapters(pack: Pack): Promise<readonly Uint8Array[]> {
  const model = pack.config.files.find(({ role }) => role === 'model');
  const files: Uint8Array[] = [];
  const names = new Set<string>();
  for (const { path, role } of pack.config.files) {
    if (role !== 'adapter') continue;
    const bytes = await pack.file(path);
    const adapter = readAdapter(bytes);
    const where = { where: `${pack.path}: ${path}` };
    if (adapter.model !== model?.digest)
      throw new RuntimeError('runtime/adapter', `${adapter.name} belongs to the model ${adapter.model}`, where);
    if (names.has(adapter.name)) throw new RuntimeError('runtime/adapter', `two are called ${adapter.name}`, where);
    names.add(adapter.name);
    files.push(bytes);
  }
  return files;
}

/** The layers that any of the adapters changes: what the lowered graph must have branches for. */
export function branchesOf(files: readonly Uint8Array[]): readonly Branch[] {
  const branches = new Map<string, Branch>();
  for (const { parts } of files.map(readAdapter))
    for (const { output, inFeatures, outFeatures, gain, shift } of parts) {
      const { hasGain = false, hasShift = false } = branches.get(output) ?? {};
      branches.set(output, {
        output,
        inFeatures,
        outFeatures,
        hasGain: hasGain || gain !== undefined,
        hasShift: hasShift || shift !== undefined,
      });
    }
  return [...branches.values()].sort((a, b) => (a.output < b.output ? -1 : 1));
}

/** @throws {RuntimeError} `runtime/adapter` */
export function checkAdapter(known: readonly string[], name: string | null): void {
  if (name === null || known.includes(name)) return;
  const there = known.length === 0 ? 'none lies beside this model' : `there are ${known.join(', ')}`;
  throw new RuntimeError('runtime/adapter', `no adapter ${JSON.stringify(name)}: ${there}`, { where: name });
}

export function isBranchInput({ name }: SessionInput): boolean {
  return name.startsWith(BRANCH_PREFIX);
}

/**
 * What is fed to the branches of a lowered model, by adapter; null: none, whose rank is 0.
 * @param inputs the model's branch inputs
 */
export function factorFeeds(
  inputs: readonly SessionInput[],
  files: readonly Uint8Array[],
): ReadonlyMap<string | null, Tensors> {
  const none: PackAdapter = { name: '', model: '', parts: [] };
  const feeds = (adapter: PackAdapter): Tensors => {
    const places = new Map<string, AdapterPart[]>();
    for (const part of adapter.parts) places.set(part.output, [...(places.get(part.output) ?? []), part]);
    return Object.fromEntries(inputs.map((input) => [input.name, factorOf(input, places)]));
  };
  const adapters = files.map(readAdapter);
  return new Map([[null, feeds(none)], ...adapters.map((adapter) => [adapter.name, feeds(adapter)] as const)]);
}

function factorOf({ name, dims }: SessionInput, places: ReadonlyMap<string, readonly AdapterPart[]>): TensorValue {
  const slash = name.lastIndexOf('/');
  const parts = places.get(name.slice(BRANCH_PREFIX.length, slash)) ?? [];
  const rank = parts.reduce((sum, part) => sum + part.rank, 0);
  switch (name.slice(slash + 1)) {
    case 'a':
      return stackedA(parts, Number(dims[0]), rank);
    case 'b':
      return blocksOfB(parts, rank, Number(dims[1]));
    case 'gain':
      return vector(Number(dims[0]), 1, parts, ({ gain }) => gain);
    default:
      return vector(Number(dims[0]), 0, parts, ({ shift }) => shift);
  }
}

/** `[inFeatures, rank]`: the parts' A side by side. */
function stackedA(parts: readonly AdapterPart[], inFeatures: number, rank: number): TensorValue {
  const data = new Float32Array(inFeatures * rank);
  let first = 0;
  for (const part of parts) {
    for (let r = 0; r < part.rank; r++)
      for (let i = 0; i < inFeatures; i++) data[i * rank + first + r] = halfToNumber(part.a[r * inFeatures + i] ?? 0);
    first += part.rank;
  }
  return { dtype: 'float32', dims: [inFeatures, rank], data };
}

/** `[rank, outFeatures]`: each part's B in its own rows and columns. */
function blocksOfB(parts: readonly AdapterPart[], rank: number, outFeatures: number): TensorValue {
  const data = new Float32Array(rank * outFeatures);
  let first = 0;
  for (const part of parts) {
    for (let o = part.begin; o < part.end; o++)
      for (let r = 0; r < part.rank; r++)
        data[(first + r) * outFeatures + o] = halfToNumber(part.b[(o - part.begin) * part.rank + r] ?? 0);
    first += part.rank;
  }
  return { dtype: 'float32', dims: [rank, outFeatures], data };
}

function vector(
  length: number,
  fallback: number,
  parts: readonly AdapterPart[],
  values: (part: AdapterPart) => Uint16Array | undefined,
): TensorValue {
  const data = new Float32Array(length).fill(fallback);
  for (const part of parts) {
    const own = values(part);
    if (own) data.set(Float32Array.from(own, halfToNumber), part.begin);
  }
  return { dtype: 'float32', dims: [length], data };
}
