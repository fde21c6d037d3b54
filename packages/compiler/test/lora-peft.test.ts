import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapter, openSafetensors } from '@flotilla/checkpoint';
import { type Model, openModel, writeModel } from '@flotilla/onnx';
import { openSession } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Combination } from '../src/lora/combine.ts';
import { mergeLora } from '../src/lora/merge.ts';

interface Combined {
  readonly ids: readonly number[];
  readonly seed: number;
  readonly cases: {
    readonly [name: string]: {
      readonly adapters: readonly string[];
      readonly weights: readonly number[];
      readonly combination_type: Combination['method'];
      readonly density?: number;
      readonly svd_rank?: number;
      readonly majority_sign_method?: 'total' | 'frequency';
    };
  };
}

const fixtures = 'test/fixtures/lora';
const combined = JSON.parse(readFileSync(join(fixtures, 'combined.json'), 'utf8')) as Combined;
let expected: Awaited<ReturnType<typeof openSafetensors>>;
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'peft-'));
  expected = await openSafetensors(join(fixtures, 'expected.safetensors'));
});
afterAll(async () => {
  await expected.close();
  await rm(dir, { recursive: true });
});

// The older exporter leaves anonymous, transposed weights; the newer names nodes by number and keeps some names.
describe.each(['tiny.onnx', 'tiny-dynamo.onnx'])('%s', (file) => {
  test('is the network that PEFT changed', async () => {
    expect(await distance(await openModel(join(fixtures, file)), 'base')).toBeLessThan(2e-5);
  });

  test.each([
    'plain',
    'rslora',
    'dora',
    'patterns',
    'regex',
    'some-layers',
    'conv1d-layers',
    'conv1d-dora',
    'lora-bias',
    'bias-all',
    'bias-lora-only',
    'saved-modules',
    'tokens',
    'embedding',
    'embedding-dora',
    'convolutions',
    'convolutions-dora',
    'half',
    'brain',
  ])('%s: merged, the outputs are PEFT’s', async (name) => {
    const model = await openModel(join(fixtures, file));
    mergeLora(model.graph, [{ adapter: await adapter(name) }]);
    model.graph.removeDead();
    expect(await distance(model, name)).toBeLessThan(1e-4);
  });
});

test.each(Object.keys(combined.cases))('combined by %s as PEFT does', async (name) => {
  const options = combined.cases[name]!;
  const model = await openModel(join(fixtures, 'tiny.onnx'));
  const adapters = await Promise.all(
    options.adapters.map(async (folder, i) => ({ adapter: await adapter(folder), weight: options.weights[i] })),
  );
  mergeLora(model.graph, adapters, {
    combination: {
      method: options.combination_type,
      density: options.density,
      rank: options.svd_rank,
      sign: options.majority_sign_method,
      seed: combined.seed,
    },
  });
  expect(await distance(model, `combined-${name}`)).toBeLessThan(1e-4);
});

test('rows of tokens reach an output layer that is tied to the embedding', async () => {
  const model = await openModel(join(fixtures, 'tied.onnx'));
  mergeLora(model.graph, [{ adapter: await adapter('tied-tokens') }]);
  expect(await distance(model, 'tied-tokens')).toBeLessThan(1e-4);
});

function adapter(name: string): ReturnType<typeof openAdapter> {
  return openAdapter(join(fixtures, 'adapters', name));
}

/** The largest difference from PEFT's outputs; the outputs are of the size of 1. */
async function distance(model: Model, name: string): Promise<number> {
  const path = join(dir, 'model.onnx');
  await writeModel(model, path);
  const session = await openSession(path);
  const ids = BigInt64Array.from(combined.ids, BigInt);
  const { logits } = await session.run({ ids: { dtype: 'int64', dims: [1, ids.length], data: ids } });
  await session.close();
  if (logits?.dtype !== 'float32') throw new Error('no logits');
  const wanted = await expected.floats(name);
  return wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - (logits.data[i] ?? Number.NaN))), 0);
}
