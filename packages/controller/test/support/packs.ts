import { join } from 'node:path';
import { createPack, type PrivateKey, writeGolden } from '@flotilla/pack';

/** A signed pack whose model is `bytes` of noise; the seed makes it another pack. */
export async function makePack(
  dir: string,
  seed: number,
  key: PrivateKey,
  bytes = 4000,
): Promise<{ path: string; digest: string }> {
  const path = join(dir, `model-${seed}.pack`);
  const x = { dtype: 'float32', dims: [1], data: Float32Array.of(seed) } as const;
  const { digest } = await createPack(
    path,
    {
      name: 'labels',
      task: 'tensor',
      weights: 'int8',
      parameters: 1000,
      sourceBytes: 4 * bytes,
      golden: { path: 'golden.safetensors', tolerance: { host: { atol: 1e-5, rtol: 0.01 } } },
      latencyBudgetUs: { '*': 25_000 },
      annotations: { seed: String(seed) },
      files: [
        { path: 'model.onnx', role: 'model', source: noise(bytes, seed) },
        {
          path: 'golden.safetensors',
          role: 'golden',
          source: writeGolden([{ name: 'one', inputs: { x }, outputs: { y: x } }]),
        },
      ],
    },
    { key },
  );
  return { path, digest };
}

export function noise(length: number, seed: number): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}
