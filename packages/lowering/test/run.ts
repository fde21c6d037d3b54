import { encodeModel, type Model } from '@flotilla/onnx';
import { InferenceSession, Tensor } from 'onnxruntime-node';

export type Floats = { readonly dims: readonly number[]; readonly data: Float32Array };

/** Runs a model in ONNX Runtime, bare: what these tests check is the graph and its session config, not our runtime. */
export async function runOrt(
  model: Model,
  feeds: { readonly [name: string]: Floats | BigInt64Array },
  options: { readonly config?: { readonly [key: string]: string }; readonly level?: 'disabled' | 'all' } = {},
): Promise<Float32Array> {
  const session = await InferenceSession.create(encodeModel(model), {
    graphOptimizationLevel: options.level ?? 'all',
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
    extra: { ...options.config },
  });
  const tensors = Object.entries(feeds).map(([name, value]) => [
    name,
    value instanceof BigInt64Array
      ? new Tensor('int64', value, [value.length])
      : new Tensor('float32', value.data, value.dims),
  ]);
  const outputs = await session.run(Object.fromEntries(tensors));
  await session.release();
  const [name = ''] = session.outputNames;
  return outputs[name]?.data as Float32Array;
}

/** Numbers from −0.5 to 0.5, the same ones at each call with one seed. */
export function randoms(length: number, seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from(
    { length },
    () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32 - 0.5,
  );
}

/** Zeros and ones: int8 activations are exact on them, whatever the kernel's rounding. */
export function bits(length: number): Float32Array {
  return randoms(length, 7).map((value) => (value > 0 ? 1 : 0));
}

/** Greatest difference, as a share of the greatest expected value. */
export function worst(found: Float32Array, expected: Float32Array): number {
  const most = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return found.reduce((max, value, i) => Math.max(max, Math.abs(value - (expected[i] ?? Number.NaN))), 0) / most;
}
