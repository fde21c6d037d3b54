import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readNpz } from '@flotilla/runtime';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { decodeCtc, labelsModelPath, readKeys } from './ctc.ts';
import { labelLines, labelTexts, writeLabelSet } from './labels.ts';

test('the same options give the same bytes, another seed gives other texts', () => {
  const [once, again] = [0, 0].map(() => labelLines({ split: 'judge', count: 20, seed: 3 }));
  const bytes = (lines: typeof once) =>
    lines?.map(({ text, data }) => [text, Buffer.from(data.buffer).toString('base64')]);
  expect(bytes(once)).toEqual(bytes(again));
  expect(labelTexts({ split: 'judge', count: 20, seed: 4 })).not.toEqual(once?.map((line) => line.text));
});

test('no text is in two splits, or twice in one', () => {
  const texts = (['calibrate', 'choose', 'judge'] as const).flatMap((split) => labelTexts({ split, count: 3000 }));
  expect(new Set(texts).size).toBe(9000);
});

test('lines are [1, 3, 48, width] within ±1, and use the range', () => {
  for (const { width, data } of labelLines({ split: 'calibrate', count: 30 })) {
    expect(data.length).toBe(3 * 48 * width);
    expect(width % 16).toBe(0);
    expect(data.every((value) => value >= -1 && value <= 1)).toBe(true);
    expect(Math.max(...data) - Math.min(...data)).toBeGreaterThan(0.3);
  }
});

test('a set on disk holds the same lines', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'labels-'));
  try {
    await writeLabelSet(dir, { split: 'choose', count: 3 });
    for (const [index, { text, width, data }] of labelLines({ split: 'choose', count: 3 }).entries()) {
      const { x, label } = await readNpz(join(dir, `0000${index}.npz`));
      expect(x).toEqual({ dtype: 'float32', dims: [1, 3, 48, width], data });
      expect(new TextDecoder().decode(label?.data as Uint8Array)).toBe(text);
    }
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('the fp32 model reads 80 to 92 % of evaluation lines exactly', { timeout: 240_000 }, async () => {
  const keys = readKeys();
  expect(keys.length).toBe(6625);
  const session = await ort.InferenceSession.create(labelsModelPath);
  const lines = labelLines({ split: 'judge', count: 200 });
  let exact = 0;
  for (const { text, width, data } of lines) {
    const [scores] = Object.values(await session.run({ x: new ort.Tensor('float32', data, [1, 3, 48, width]) }));
    if (decodeCtc(scores?.data as Float32Array, keys) === text) exact++;
  }
  expect(exact / lines.length).toBeGreaterThanOrEqual(0.8);
  expect(exact / lines.length).toBeLessThanOrEqual(0.92);
});
