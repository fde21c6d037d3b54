import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBaseWeights, openSafetensors } from '@flotilla/checkpoint';
import { afterAll, beforeAll, expect, test } from 'vitest';

const fixtures = 'test/fixtures/lora';
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'base-'));
});
afterAll(() => rm(dir, { recursive: true }));

test.each([
  ['model.layers.0.attn.q_proj.weight', 'nf4', [8, 8]],
  ['model.layers.1.attn.o_proj.weight', 'fp4', [8, 8]],
  ['lm_head.weight', 'nf4', [20, 8]], // the last of its three blocks is short
])('%s in %s is read as bitsandbytes reads it, bit for bit', async (name, format, shape) => {
  const weights = await openBaseWeights(join(fixtures, 'base'));
  const expected = await openSafetensors(join(fixtures, 'expected.safetensors'));
  expect(weights.tensors.get(name)).toMatchObject({ format, shape });
  expect(await weights.floats(name)).toEqual(await expected.floats(`dequantized.${name}`));
  await Promise.all([weights.close(), expected.close()]);
});

test('companions are no weights of their own; fp16 comes as it is', async () => {
  const weights = await openBaseWeights(join(fixtures, 'base/model.safetensors.index.json'));
  expect(weights.tensors.size).toBe(33);
  expect(weights.tensors.get('model.embed_tokens.weight')).toMatchObject({ format: 'F16', shape: [20, 8] });
  await weights.close();
});

interface Raw {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

const state = {
  quant_type: 'nf4',
  blocksize: 4,
  dtype: 'float16',
  shape: [2, 4],
  nested_blocksize: 256,
  nested_dtype: 'float32',
  nested_offset: 0.5,
};

function floatsOf(...values: readonly number[]): Raw {
  return { dtype: 'F32', shape: [values.length], bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

function json(value: unknown): Raw {
  const bytes = new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));
  return { dtype: 'U8', shape: [bytes.length], bytes };
}

/** A weight of eight elements in two blocks, double quantized. */
function fourBit(): { [name: string]: Raw | undefined } {
  const levels = Float32Array.from({ length: 16 }, (_, i) => i / 15);
  return {
    'w.weight': { dtype: 'U8', shape: [4, 1], bytes: Uint8Array.of(0x0f, 0xf0, 0x88, 0x12) },
    'w.weight.absmax': { dtype: 'U8', shape: [2], bytes: Uint8Array.of(255, 0) },
    'w.weight.quant_map': floatsOf(...levels),
    'w.weight.nested_absmax': floatsOf(2),
    'w.weight.nested_quant_map': floatsOf(...Float32Array.from({ length: 256 }, (_, i) => i / 255)),
    'w.weight.quant_state.bitsandbytes__nf4': json(state),
  };
}

test('the first element lies in the high nibble, the offset is added to the nested maxima', async () => {
  await writeSafetensors('good.safetensors', fourBit());
  const weights = await openBaseWeights(join(dir, 'good.safetensors'));
  const [a, b, c] = (await weights.floats('w.weight')) ?? [];
  expect([a, b, c]).toEqual([0, 2.5, 2.5]);
  await weights.close();
});

test.each<[string, { readonly [name: string]: Raw | undefined }, string]>([
  ['nested offset missing', { ...withState({ nested_offset: undefined }) }, 'nested_offset is missing'],
  ['nested offset NaN', { 'w.weight.quant_state.bitsandbytes__nf4': json('{"nested_offset":NaN}') }, 'is not JSON'],
  ['nested maxima missing', { 'w.weight.nested_absmax': undefined }, 'nested_absmax is missing'],
  ['nested maximum NaN', { 'w.weight.nested_absmax': floatsOf(Number.NaN) }, 'nested absmax 0 is NaN'],
  ['absmax missing', { 'w.weight.absmax': undefined }, 'absmax is missing'],
  ['absmax NaN', { 'w.weight.absmax': floatsOf(1, Number.NaN) }, 'absmax 1 is NaN'],
  ['absmax too short', { 'w.weight.absmax': floatsOf(1) }, '1 absmax'],
  ['a map of 15', { 'w.weight.quant_map': floatsOf(...Array.from({ length: 15 }, () => 1)) }, '15 levels'],
  ['block size 0', withState({ blocksize: 0 }), 'block length 0'],
  ['an odd block size', withState({ blocksize: 3 }), 'block length 3'],
  ['a shape of another size', withState({ shape: [2, 5] }), '[2, 5] in 4 bytes'],
  ['a shape past every number', withState({ shape: [9007199254740991, 9007199254740991] }), 'in 4 bytes'],
  ['an odd number of weights', withState({ shape: [7] }), '[7] in 4 bytes'],
  ['another type', withState({ quant_type: 'fp4' }), 'another quant_type'],
])('#36 4-bit weights with %s are refused', async (_, change, message) => {
  await writeSafetensors('bad.safetensors', { ...fourBit(), ...change });
  const reading = readWeight(join(dir, 'bad.safetensors'));
  await expect(reading).rejects.toMatchObject({
    code: 'checkpoint/four-bit',
    message: expect.stringContaining(message) as string,
  });
});

test.each([
  ['w.qweight', 'I32'],
  ['w.SCB', 'F32'],
  ['w.weight', 'U8'],
  ['w.weight', 'F8_E4M3'],
])('%s in %s is another quantizer’s and refused', async (name, dtype) => {
  await writeSafetensors('foreign.safetensors', {
    [name]: { dtype, shape: [1], bytes: new Uint8Array(dtype.endsWith('32') ? 4 : 1) },
  });
  await expect(openBaseWeights(join(dir, 'foreign.safetensors'))).rejects.toMatchObject({
    code: 'checkpoint/quantized',
  });
});

test.each([
  ['../a.safetensors', 'no file beside the index'],
  ['/etc/passwd', 'no file beside the index'],
  ['a.bin', 'no file beside the index'],
  ['b.safetensors', 'x.weight is not in b.safetensors'],
])('a shard %s is refused', async (shard, message) => {
  const folder = join(dir, 'sharded');
  await mkdir(folder, { recursive: true });
  await writeSafetensors('sharded/b.safetensors', { 'y.weight': floatsOf(1) });
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { 'x.weight': shard } }));
  await expect(openBaseWeights(folder)).rejects.toMatchObject({
    code: 'checkpoint/index',
    message: expect.stringContaining(message) as string,
  });
});

async function readWeight(path: string): Promise<Float32Array> {
  const weights = await openBaseWeights(path);
  try {
    return await weights.floats('w.weight');
  } finally {
    await weights.close();
  }
}

function withState(change: object): { readonly [name: string]: Raw } {
  return { 'w.weight.quant_state.bitsandbytes__nf4': json({ ...state, ...change }) };
}

async function writeSafetensors(name: string, tensors: { readonly [name: string]: Raw | undefined }): Promise<void> {
  const header: { [name: string]: object } = {};
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const [tensor, raw] of Object.entries(tensors)) {
    if (!raw) continue;
    header[tensor] = { dtype: raw.dtype, shape: raw.shape, data_offsets: [end, end + raw.bytes.length] };
    end += raw.bytes.length;
    parts.push(raw.bytes);
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  await writeFile(join(dir, name), Buffer.concat([length, text, ...parts]));
}
