import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCanvas } from '@napi-rs/canvas';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { logMel } from '../src/data/log-mel.ts';
import { readWav } from '../src/data/read-wav.ts';
import { resize } from '../src/data/resize.ts';
import { type DataInput, openData, type Sample } from '../src/index.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'media-'));
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

const image: DataInput = { name: 'x', dtype: 'float32', dims: ['n', 3, 2, 2] };

/** A folder of its own with these files. */
async function folder(files: { readonly [name: string]: Uint8Array | string }): Promise<string> {
  const made = await mkdtemp(join(dir, 'set-'));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(made, name, '..'), { recursive: true });
    await writeFile(join(made, name), content);
  }
  return made;
}

async function rules(text: string): Promise<string> {
  const path = join(await mkdtemp(join(dir, 'rules-')), 'rules.yaml');
  await writeFile(path, text);
  return path;
}

/** Left half red, right half blue. */
function picture(width: number, height: number, type: 'image/png' | 'image/jpeg' | 'image/webp' = 'image/png'): Buffer {
  const canvas = createCanvas(width, height);
  const context = canvas.getContext('2d');
  context.fillStyle = '#ff0000';
  context.fillRect(0, 0, width / 2, height);
  context.fillStyle = '#0000ff';
  context.fillRect(width / 2, 0, width / 2, height);
  return type === 'image/png' ? canvas.toBuffer(type) : canvas.toBuffer(type, 100);
}

async function read(path: string, preprocess: string, inputs: readonly DataInput[]): Promise<Sample[]> {
  const data = await openData(path, { inputs, preprocess });
  if (data.kind !== 'tensor') throw new Error('not tensors');
  const samples: Sample[] = [];
  for await (const sample of data.samples()) samples.push(sample);
  return samples;
}

const pixels = (sample: Sample | undefined, name = 'x'): number[] =>
  Array.from(sample?.inputs[name]?.data as Float32Array);

describe('pictures', () => {
  test('fill [1, 3, height, width], scaled, less the mean, over the deviation', async () => {
    const set = await folder({ 'a.png': picture(2, 2) });
    const by = await rules('image: { size: [2, 2], mean: [0.5, 0, 0], std: [0.5, 1, 1] }');
    const [sample] = await read(set, by, [image]);
    expect(sample?.inputs['x']?.dims).toEqual([1, 3, 2, 2]);
    expect(pixels(sample)).toEqual([1, -1, 1, -1, 0, 0, 0, 0, 0, 1, 0, 1]);
  });
  test('blue first, channels last', async () => {
    const set = await folder({ 'a.png': picture(2, 2) });
    const by = await rules('image: { size: [2, 2], colour: bgr, layout: nhwc, scale: 1 }');
    const [sample] = await read(set, by, [{ ...image, dims: [1, 2, 2, 3] }]);
    expect(pixels(sample)).toEqual([0, 0, 255, 255, 0, 0, 0, 0, 255, 255, 0, 0]);
  });
  test.each(['image/png', 'image/jpeg', 'image/webp'] as const)('%s is read', async (type) => {
    const set = await folder({ [`a.${type.slice(6).replace('jpeg', 'jpg')}`]: picture(64, 64, type) });
    const [sample] = await read(set, await rules('image: { size: [2, 2] }'), [image]);
    expect(pixels(sample)[0]).toBeGreaterThan(0.95);
    expect(pixels(sample)[9]).toBeGreaterThan(0.95);
  });
  test('cover cuts the sides off, contain fills them, height keeps the shape', async () => {
    const set = await folder({ 'a.png': picture(8, 4) });
    const cover = await read(set, await rules('image: { size: [4, 4], fit: cover, scale: 1 }'), [
      { ...image, dims: [1, 3, 4, 4] },
    ]);
    expect(pixels(cover[0]).slice(0, 4)).toEqual([255, 255, 0, 0]);
    const contain = await read(set, await rules('image: { size: [8, 8], fit: contain, scale: 1, pad: 7 }'), [
      { ...image, dims: [1, 3, 8, 8] },
    ]);
    expect(pixels(contain[0]).slice(0, 24)).toEqual([...Array(16).fill(7), 255, 255, 255, 255, 0, 0, 0, 0]);
    const wide = await read(set, await rules('image: { size: [2], fit: height }'), [
      { ...image, dims: [1, 3, 2, 'w'] },
    ]);
    expect(wide[0]?.inputs['x']?.dims).toEqual([1, 3, 2, 4]);
  });
  test('labels: by folder, or from a file of lines', async () => {
    const set = await folder({
      'cat/1.png': picture(2, 2),
      'dog/2.png': picture(2, 2),
      'l.csv': '1.png,7\n2.png,a, b',
    });
    const byFolder = await read(set, await rules('image: { size: [2, 2], labels: folder }'), [image]);
    expect(byFolder.map(({ label }) => Number((label as { data: BigInt64Array }).data[0]))).toEqual([0, 1]);
    const byFile = await read(set, await rules('image: { size: [2, 2], labels: l.csv }'), [image]);
    expect(byFile[1]?.label).toBe('a, b');
    expect(byFile[0]?.label).toMatchObject({ data: BigInt64Array.of(7n) });
  });
  test('bilinear with half-pixel centres: 0, 4 to four columns are 0, 1, 3, 4', () => {
    const row = { width: 2, height: 1, channels: 1, data: Float32Array.of(0, 4) };
    expect(Array.from(resize(row, 4, 1, 'bilinear').data)).toEqual([0, 1, 3, 4]);
    expect(Array.from(resize(row, 4, 1, 'nearest').data)).toEqual([0, 0, 4, 4]);
  });
});

/** RIFF WAVE of 16-bit samples. */
function wav(samples: readonly number[], rate = 16_000, channels = 1): Buffer {
  const bytes = Buffer.alloc(44 + samples.length * 2);
  bytes.write('RIFF', 0);
  bytes.writeUInt32LE(36 + samples.length * 2, 4);
  bytes.write('WAVEfmt ', 8);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20);
  bytes.writeUInt16LE(channels, 22);
  bytes.writeUInt32LE(rate, 24);
  bytes.writeUInt16LE(16, 34);
  bytes.write('data', 36);
  bytes.writeUInt32LE(samples.length * 2, 40);
  for (const [i, value] of samples.entries()) bytes.writeInt16LE(value, 44 + i * 2);
  return bytes;
}

describe('sound', () => {
  const inputs: DataInput[] = [
    { name: 'input', dtype: 'float32', dims: ['n', 4] },
    { name: 'sr', dtype: 'int64', dims: [] },
  ];
  test('is cut into windows; other inputs are filled', async () => {
    const set = await folder({ 'a.wav': wav([16384, 0, -16384, 0, 8192, 0, 0, 0, 1]) });
    const samples = await read(set, await rules('sound: { window: 4, hop: 2 }\nconstants: { sr: 16000 }'), inputs);
    expect(samples.map(({ name }) => name)).toEqual(['a.wav@0', 'a.wav@2', 'a.wav@4']);
    expect(pixels(samples[0], 'input')).toEqual([0.5, 0, -0.5, 0]);
    expect(samples[0]?.inputs['sr']).toMatchObject({ data: BigInt64Array.of(16_000n) });
  });
  test(':N limits windows', async () => {
    const set = await folder({ 'a.wav': wav(Array(40).fill(5)) });
    const by = await rules('sound: { window: 4 }\nconstants: { sr: 16000 }');
    expect(await read(`${set}:3`, by, inputs)).toHaveLength(3);
  });
  test('stereo is mixed, another rate resampled', async () => {
    expect(Array.from(readWav(wav([100, 300], 16_000, 2), 'x').samples)).toEqual([200 / 32768]);
    const set = await folder({ 'a.wav': wav([0, 8192, 16384, 8192], 8_000) });
    const by = await rules('sound: { window: 4, scale: 4 }\nconstants: { sr: 16000 }');
    expect(pixels((await read(set, by, inputs))[0], 'input')).toEqual([0, 0.5, 1, 1.5]);
  });
  test('log-mel: a tone’s energy lies in the band around it', () => {
    const tone = Float32Array.from({ length: 400 }, (_, i) => Math.sin((2 * Math.PI * 1000 * i) / 16_000));
    const bands = Array.from(logMel(tone, { rate: 16_000, fft: 400, step: 160, bands: 20 }));
    expect(bands).toHaveLength(20);
    // mel(1000 Hz) = 1000 of 2840: 7.4 steps of 135.2, so between the triangles that peak at 7 and 8.
    expect([6, 7]).toContain(bands.indexOf(Math.max(...bands)));
    expect(Math.max(...bands) - (bands[15] ?? 0)).toBeGreaterThan(8);
  });
  test.each([
    ['a text', Buffer.from('hello, this is no sound')],
    ['cut before its format', wav([1, 2]).subarray(0, 20)],
    ['a format of 12 bits', Buffer.from(wav([1]).map((byte, i) => (i === 34 ? 12 : byte)))],
  ])('%s is refused', (_, bytes) => {
    expect(() => readWav(bytes, 'a.wav')).toThrow(expect.objectContaining({ code: 'compiler/data' }));
  });
});

describe('rules that are wrong', () => {
  test.each<[string, string, RegExp]>([
    ['neither', 'constants: {}', /either image or sound/],
    ['an unknown rule', 'image: { size: [2, 2], sise: 3 }', /sise/],
    ['a size of 0', 'image: { size: [0, 2] }', /size/],
    ['not YAML', 'image: [', /rules\.yaml/],
    ['an input that the model lacks', 'image: { size: [2, 2], input: y }', /no input y/],
    ['a constant for no input', 'image: { size: [2, 2] }\nconstants: { z: 1 }', /no other input z/],
  ])('%s', async (_, text, message) => {
    const set = await folder({ 'a.png': picture(2, 2) });
    await expect(read(set, await rules(text), [image])).rejects.toMatchObject({
      code: 'compiler/preprocess',
      message: expect.stringMatching(message),
    });
  });
  test('an input that nothing fills', async () => {
    const set = await folder({ 'a.png': picture(2, 2) });
    const by = await rules('image: { size: [2, 2] }');
    await expect(read(set, by, [image, { name: 'h', dtype: 'float32', dims: [1] }])).rejects.toThrow(
      /fills the input h/,
    );
  });
  test('#23 a file that is no picture', async () => {
    const set = await folder({ 'a.png': 'hello' });
    const by = await rules('image: { size: [2, 2] }');
    await expect(read(set, by, [image])).rejects.toMatchObject({ code: 'compiler/data' });
  });
});
