import type { SessionInput, Tensors, TensorValue } from '@flotilla/runtime';

/**
 * Two samples for a model that came without data: seeded noise in −1…1, small whole numbers, dimensions without a
 * length set to 1 (batch) or `freeLength`. Good enough to compare two graphs, never to calibrate.
 */
export async function* madeUpInputs(inputs: readonly SessionInput[], freeLength = 32): AsyncIterable<Tensors> {
  const random = seededRandom(7);
  for (let sample = 0; sample < 2; sample++) {
    yield Object.fromEntries(inputs.map((input) => [input.name, madeUp(input, freeLength, random)]));
  }
}

function madeUp(input: SessionInput, freeLength: number, random: () => number): TensorValue {
  const dims = input.dims.map((dim, axis) => (typeof dim === 'number' && dim > 0 ? dim : axis === 0 ? 1 : freeLength));
  const size = dims.reduce((product, dim) => product * dim, 1);
  switch (input.dtype) {
    case 'int64':
      return {
        dtype: 'int64',
        dims,
        data: BigInt64Array.from({ length: size }, () => BigInt(Math.floor(random() * 2))),
      };
    case 'int32':
      return { dtype: 'int32', dims, data: Int32Array.from({ length: size }, () => Math.floor(random() * 2)) };
    case 'bool':
      return { dtype: 'bool', dims, data: Uint8Array.from({ length: size }, () => 1) };
    case 'uint8':
      return { dtype: 'uint8', dims, data: Uint8Array.from({ length: size }, () => Math.floor(random() * 256)) };
    default:
      return { dtype: 'float32', dims, data: Float32Array.from({ length: size }, () => random() * 2 - 1) };
  }
}

/** mulberry32: small, and the same everywhere. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
