import { join } from 'node:path';
import { bench, compareWithBare, openSession, spawnSession, syntheticFeeds, type Tensors } from '@flotilla/runtime';
import { expect, test } from 'vitest';
import { LLAMA } from './packs.ts';
import { addOne, saved } from './tiny-models.ts';

const llama = join(LLAMA, 'model.onnx');
const sizes = { sequence_length: 4, total_sequence_length: 4, past_sequence_length: 0 };

test('a bench tells cold start, latency, memory and time per operator', async () => {
  const session = await spawnSession(llama);
  const feeds = [syntheticFeeds(session.inputs, sizes)];
  const report = await bench(session, { feeds, seconds: 0.5, profile: true });
  await session.close();
  expect(report.coldStart.processMs).toBeGreaterThan(10);
  expect(report.coldStart.loadMs).toBeGreaterThan(1);
  expect(report.coldStart.firstMs).toBeGreaterThan(0.1);
  expect(report.latency.count).toBeGreaterThan(0);
  expect(report.throughputPerS).toBeCloseTo(report.latency.count / 0.5, -2);
  expect(report.memory.weightsBytes).toBeGreaterThan(15.9e6); // 4.0 M parameters in fp32
  expect(report.memory.peakRssBytes).toBeGreaterThan(report.memory.weightsBytes);
  const [slowest] = report.operators;
  expect(report.operators.length).toBeGreaterThan(50);
  expect(slowest?.op).toMatch(/MatMul/);
  expect(report.operators.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6);
  expect(JSON.parse(JSON.stringify(report))).toEqual(report);
});

test('a second bench of one session has no first run to tell of', async () => {
  const session = await openSession(await saved(addOne));
  const feeds: Tensors[] = [{ x: { dtype: 'float32', dims: [1, 2], data: Float32Array.of(1, 2) } }];
  expect((await bench(session, { feeds, maxRuns: 2 })).coldStart).toMatchObject({
    processMs: null,
    firstMs: expect.any(Number),
  });
  expect((await bench(session, { feeds, maxRuns: 2 })).coldStart.firstMs).toBeNull();
  await session.close();
});

test('this runtime adds little to bare ONNX Runtime', async () => {
  const session = await openSession(llama);
  const feeds = syntheticFeeds(session.inputs, { ...sizes, sequence_length: 64, total_sequence_length: 64 });
  await session.close();
  const { overhead, runs } = await compareWithBare(llama, feeds, { runs: 40 });
  expect(runs).toBe(40);
  expect(overhead).toBeLessThan(0.5); // a busy test machine; scripts/bench holds the 3 % on a quiet one
});
