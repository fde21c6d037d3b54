import { createHash } from 'node:crypto';
import { rebuildModel } from '@flotilla/lowering';
import {
  buildModel,
  encodeModel,
  floats,
  type Model,
  type NewNode,
  type NewTensor,
  tensorFromFloats,
  tensorInfo,
} from '@flotilla/onnx';
import { dequantizeInt4, float16ToFloat32, float32ToFloat16, loraDelta, quantizeInt4 } from '@flotilla/quant';
import { expect, test } from 'vitest';

const [IN, OUT, RANK] = [64, 48, 3];
/** The same on every machine: no sines. */
const pattern = (length: number, step: number) =>
  Float32Array.from({ length }, (_, i) => (((i * step) % 251) - 125) / 125);
const a = float32ToFloat16(pattern(RANK * IN, 37));
const b = float32ToFloat16(pattern(OUT * RANK, 53).map((value) => value / 8));
const change = { output: 'y', inFeatures: IN, outFeatures: OUT, begin: 0, end: OUT, rank: RANK, a, b };
const plain = { ...change, gain: undefined, shift: undefined };
const bytesOf = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

type Form = 'uint4' | 'int4' | 'int8' | 'float32';

/** A weight `[IN, OUT]` (or turned) in one of the forms that a pack has, behind whatever makes it `w`. */
function weight(form: Form, [rows, cols]: readonly [number, number], axis: 0 | 1) {
  const dims = [rows, cols];
  const w = pattern(rows * cols, 101);
  if (form === 'float32') return { nodes: [], initializers: { w: tensorFromFloats(dims, w) } };
  const attributes = { axis: { int: axis }, ...(form !== 'int8' && { block_size: { int: 16 } }) };
  const initializers: { [name: string]: NewTensor } = {};
  if (form === 'int8') {
    initializers['q'] = { dtype: 'int8', dims, bytes: bytesOf(Int8Array.from(w, (value) => Math.round(value * 100))) };
    initializers['scale'] = tensorFromFloats(
      [dims[axis] ?? 0],
      pattern(dims[axis] ?? 0, 7).map((x) => (x + 2) / 200),
    );
  } else {
    const sizes = axis === 0 ? { rows: 1, cols: rows, inner: cols } : { rows, cols };
    const made = quantizeInt4(w, { ...sizes, block: 16, symmetric: form === 'int4' });
    initializers['q'] = { dtype: form, dims, bytes: made.q };
    initializers['scale'] = tensorFromFloats(dims.with(axis, (dims[axis] ?? 0) / 16), made.scale);
    if (made.zeroPoint) initializers['zero'] = { dtype: form, dims: initializers['scale'].dims, bytes: made.zeroPoint };
  }
  const inputs = Object.keys(initializers);
  return { nodes: [{ opType: 'DequantizeLinear', inputs, outputs: ['w'], attributes }], initializers };
}

interface Layer {
  readonly form: Form;
  readonly op: 'MatMul' | 'Gemm' | 'Gather';
}

function layerModel({ form, op }: Layer, more: readonly NewNode[] = []): Model {
  const { nodes, initializers } = weight(form, op === 'Gemm' ? [OUT, IN] : [IN, OUT], op === 'MatMul' ? 0 : 1);
  const inputs = op === 'Gather' ? ['w', 'x'] : ['x', 'w'];
  const attributes = op === 'Gemm' ? { transB: { int: 1 } } : {};
  const layer: NewNode = { opType: op, inputs, outputs: ['y'], attributes };
  return buildModel({
    opset: 21,
    inputs: [op === 'Gather' ? tensorInfo('x', 'int64', ['n']) : tensorInfo('x', 'float32', ['n', IN])],
    outputs: [
      tensorInfo('y', 'float32', ['n', OUT]),
      ...(more.length > 0 ? [tensorInfo('z', 'float32', ['n', OUT])] : []),
    ],
    nodes: [...nodes, layer, ...more],
    initializers,
  });
}

/** What a node reads, in floats, in its own layout. */
function weightOf(model: Model, output: string): Float32Array {
  const node = model.graph.producer(output);
  const value = node?.inputs[node.opType === 'Gather' ? 0 : 1] ?? '';
  const direct = model.graph.constant(value);
  if (direct) return floats(direct);
  const reading = model.graph.producer(value);
  const [q, scale, zero] = (reading?.inputs ?? []).map((name) => model.graph.constant(name));
  if (!reading || !q || !scale) throw new Error(`${output} reads no weight`);
  const axis = reading.int('axis', 1);
  const [rows = 0, cols = 0] = q.dims;
  if (q.dtype === 'int8')
    return floats(q).map((level, at) => level * (floats(scale)[axis === 0 ? Math.floor(at / cols) : at % cols] ?? 0));
  const sizes = axis === 0 ? { rows: 1, cols: rows, inner: cols } : { rows, cols };
  return dequantizeInt4({ q: q.bytes(), scale: floats(scale), zeroPoint: zero?.bytes() }, { ...sizes, block: 16 });
}

function digestOf({ graph }: Model): string {
  const hash = createHash('sha256');
  for (const tensor of graph.initializers.values()) hash.update(tensor.bytes());
  return hash.digest('hex').slice(0, 16);
}

// The digests were made on x86; on any other machine these tests say whether it makes the same bytes.
test.each<Layer & { readonly digest: string }>([
  { form: 'uint4', op: 'MatMul', digest: 'c836513a750d5d87' },
  { form: 'uint4', op: 'Gemm', digest: 'c2ae0a3e90d534a5' },
  { form: 'uint4', op: 'Gather', digest: '3e1035c057212067' },
  { form: 'int4', op: 'MatMul', digest: 'ac13e4654739db7d' },
  { form: 'int8', op: 'MatMul', digest: '11f172a58a0a01ab' },
  { form: 'int8', op: 'Gemm', digest: '07c9fd7203a7905c' },
  { form: 'float32', op: 'MatMul', digest: '7b05f0acd648db8a' },
])('$form weights of a $op get a change merged', ({ digest, ...layer }) => {
  const model = layerModel(layer);
  const before = weightOf(model, 'y');
  rebuildModel(model, [plain]);
  const after = weightOf(model, 'y');
  const delta = loraDelta({ ...plain, a: float16ToFloat32(a), b: float16ToFloat32(b), scale: 1 });
  const changed = before.map((value, at) => {
    const [i, o] = layer.op === 'Gemm' ? [at % IN, Math.floor(at / IN)] : [Math.floor(at / OUT), at % OUT];
    return value + (delta[o * IN + i] ?? 0);
  });
  const power = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0);
  const lost = power(after.map((value, at) => value - (changed[at] ?? 0))) / power(changed);
  expect(power(delta) / power(before)).toBeGreaterThan(0.01);
  expect(lost).toBeLessThan({ uint4: 5e-3, int4: 6e-3, int8: 5e-3, float32: 1e-12 }[layer.form]);
  expect(digestOf(model)).toBe(digest);
});

test('another reader of the weight keeps the old one; the same change gives the same graph again', () => {
  const other = { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['z'] };
  const [model, again] = [0, 1].map(() => layerModel({ form: 'uint4', op: 'MatMul' }, [other])) as [Model, Model];
  const before = weightOf(model, 'z');
  for (const one of [model, again]) rebuildModel(one, [plain]);
  expect(weightOf(model, 'z')).toEqual(before);
  expect(weightOf(model, 'y')).not.toEqual(before);
  expect(encodeModel(again)).toEqual(encodeModel(model));
});

test('several changes of one layer, of some outputs each', () => {
  const model = layerModel({ form: 'float32', op: 'Gemm' });
  const before = weightOf(model, 'y');
  const [low, high] = [
    { ...plain, end: 16, b: b.subarray(0, 16 * RANK) },
    { ...plain, begin: 32, b: b.subarray(32 * RANK) },
  ];
  rebuildModel(model, [low, high]);
  const after = weightOf(model, 'y');
  const moved = Array.from({ length: OUT }, (_, o) =>
    after.subarray(o * IN, (o + 1) * IN).some((value, i) => value !== before[o * IN + i]),
  );
  expect(moved).toEqual(moved.map((_, o) => o < 16 || o >= 32));
});

test.each([
  ['a value that nothing makes', { ...plain, output: 'v' }, '"v" is no value of the model'],
  ['a node without weights', { ...plain, output: 'w' }, 'takes no adapter'],
  ['another shape', { ...plain, inFeatures: 32 }, 'not outputs 0 to 48 of 48 from 32'],
  ['a shift', { ...plain, shift: new Uint16Array(OUT) }, 'no change of weights'],
])('#34 %s is refused', (_, wrong, message) => {
  const refusal = expect.objectContaining({ code: 'lowering/rebuild', message: expect.stringContaining(message) });
  expect(() => rebuildModel(layerModel({ form: 'uint4', op: 'MatMul' }), [wrong])).toThrow(refusal);
});
