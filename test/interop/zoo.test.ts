import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile } from '@flotilla/compiler';
import { openPack } from '@flotilla/pack';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { zoo } from '../models/zoo.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-zoo-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Without flags and without data; the bigger ones are compiled by `scripts/bench`, the recogniser by the demo. */
test.each<[string, { readonly quantized: number; readonly ratio: number }]>([
  ['ch_ppocr_mobile_v2.0_cls_infer', { quantized: 54, ratio: 0.33 }],
  ['melspectrogram', { quantized: 3, ratio: 0.51 }],
  ['embedding_model', { quantized: 20, ratio: 0.28 }],
  ['hey_jarvis_v0.1', { quantized: 6, ratio: 0.26 }],
  ['silero_vad', { quantized: 44, ratio: 0.37 }],
  ['silero_vad_v5', { quantized: 16, ratio: 0.36 }],
])('%s compiles by the default recipe', async (name, least) => {
  const out = join(dir, `${name}.pack`);
  const report = await compile(zoo.get(name) ?? '', out, { latencySeconds: 0 });
  expect(report.nodes.quantized).toBeGreaterThanOrEqual(least.quantized);
  expect(report.ratio).toBeLessThanOrEqual(least.ratio);
  for (const { node, reason } of report.float)
    expect([node, reason]).toEqual([expect.any(String), expect.stringMatching(/./)]);
  expect(report.warnings).toEqual([expect.stringContaining('no calibration data')]);
  const pack = await openPack(out);
  expect(pack.config.golden).not.toBeNull();
  await pack.close();
});
