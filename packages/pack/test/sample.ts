import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PackContents, writeGolden } from '../src/index.ts';

/** A folder of the test's own. */
export async function scratch(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'flotilla-pack-'));
}

/** Bytes that look random and are the same every time. */
export function noise(length: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

export const golden = writeGolden([
  {
    name: 'one',
    inputs: { x: { dtype: 'float32', dims: [1, 2], data: Float32Array.of(1, -2) } },
    outputs: { y: { dtype: 'int64', dims: [3], data: BigInt64Array.of(1n, -2n, 3n) } },
  },
]);

export const contents: PackContents = {
  name: 'labels',
  task: 'tensor',
  weights: 'int8',
  parameters: 2_700_000,
  sourceBytes: 10_800_000,
  golden: { path: 'golden.safetensors', tolerance: { host: { atol: 1e-5, rtol: 0.01 } } },
  latencyBudgetUs: { '*': 25_000 },
  annotations: { licence: 'Apache-2.0' },
  files: [
    { path: 'model.onnx', role: 'model', source: noise(3_000) },
    { path: 'golden.safetensors', role: 'golden', source: golden },
    { path: 'text/keys.txt', role: 'keys', source: new TextEncoder().encode('a\nb\n') },
    { path: 'text/copy.txt', role: 'keys', source: new TextEncoder().encode('a\nb\n') },
    { path: 'plan.bin', role: 'flight-plan', source: noise(100, 7) },
  ],
};
