import { loadBoard } from '@flotilla/boards';
import { IN_PLACE, lowerModel, MEMORY } from '@flotilla/lowering';
import { type Model, openModel, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import { describe, expect, test } from 'vitest';
import { buildLlama, type LlamaSizes, randomWeights } from '../../../test/models/random-llama.ts';
import { decode } from '../../../test/models/decode.ts';
import { worst } from './run.ts';

const sizes: LlamaSizes = { hidden: 64, layers: 2, heads: 4, kvHeads: 2, ffn: 48, vocabulary: 40, positions: 24 };
const wordnet = 'test/fixtures/models/wordnet-llama-4m/model.onnx';
/** A prompt, a token, and a prompt that goes on from there. */
const pieces = [[1, 5, 9, 13, 2], [7], [3, 3, 20]];

const board = await loadBoard('host');
const kernels = (model: Model) => new Set([...model.graph.walk()].map(({ opType }) => opType));

const sources: { readonly [what: string]: () => Model | Promise<Model> } = {
  'as torch.onnx exports it': () => openModel(wordnet),
  'two heads on one cache': () => buildLlama(sizes),
  'a cache for every head': () => buildLlama({ ...sizes, kvHeads: 4 }),
  'one cache for all': () => buildLlama({ ...sizes, kvHeads: 1 }),
};

describe.each(Object.entries(sources))('a decoder, %s', (_, source) => {
  test.each(['full', 'in-place'] as const)('gives the same logits fused, its cache %s', async (cache) => {
    const model = await source();
    const lowered = lowerModel(model, board, { cache });
    expect(lowered.choices.map(({ kernel }) => kernel)).toContain('GroupQueryAttention');
    const ops = kernels(lowered.model);
    for (const gone of ['Softmax', 'ReduceMean', 'CumSum', 'Expand']) expect(ops).not.toContain(gone);
    const expected = await decode(model, pieces);
    const found = await decode(lowered.model, pieces, { config: lowered.session });
    expect(found.map(({ length }) => length)).toEqual(expected.map(({ length }) => length));
    for (const [i, logits] of found.entries()) expect(worst(logits, expected[i] ?? logits)).toBeLessThan(5e-6);
  });
});

test('logits of the last positions alone, where that is asked for', async () => {
  const model = buildLlama(sizes);
  const { model: lowered } = lowerModel(model, board, { cache: 'in-place' });
  const [whole = new Float32Array()] = await decode(model, pieces.slice(0, 1));
  for (const keep of [1, 2]) {
    const [last = whole] = await decode(lowered, pieces.slice(0, 1), { keep });
    expect(last.length).toBe(keep * sizes.vocabulary);
    expect(worst(last, whole.slice(-last.length))).toBeLessThan(5e-6);
  }
});

test('a cache in place needs a vocabulary that is stated', () => {
  const model = buildLlama(sizes);
  const { model: stated, session } = lowerModel(model, board, { cache: 'in-place' });
  expect(stated.graph.outputs[0]?.name).toBe(IN_PLACE);
  expect(session).toHaveProperty(MEMORY);
  const dims = ['batch_size', 'sequence_length', 'vocabulary'];
  model.graph.setOutputs(
    model.graph.outputs.map((it) => (it.name === 'logits' ? { ...it, type: { dtype: 'float32', dims } } : it)),
  );
  const { model: unstated } = lowerModel(model, board, { cache: 'in-place' });
  expect(kernels(unstated)).toContain('GroupQueryAttention');
  expect(unstated.graph.outputs.map(({ name }) => name)).not.toContain(IN_PLACE);
});

test('plain on request, and inputs and outputs as they were unless a cache in place is asked for', () => {
  const model = buildLlama(sizes);
  const plain = lowerModel(model, board, { cache: 'plain' }).model;
  expect(kernels(plain)).toContain('Softmax');
  const full = lowerModel(model, board);
  const { inputs, outputs } = full.model.graph;
  expect([inputs, outputs]).toEqual([model.graph.inputs, model.graph.outputs]);
  expect(full.session).not.toHaveProperty(MEMORY);
});

test('an RMSNorm without a gain, which clean-up put into the products behind it, is fused as well', async () => {
  const model = buildLlama(sizes);
  for (const node of model.graph.walk({ opType: 'Mul' }))
    if (node.inputs[1]?.endsWith('norm.weight')) model.graph.replaceUses(node.outputs[0] ?? '', node.inputs[0] ?? '');
  model.graph.removeDead();
  const { model: lowered, choices } = lowerModel(model, board);
  expect(choices.filter(({ op }) => op === 'ReduceMean')).toHaveLength(2 * sizes.layers + 1);
  const [expected = new Float32Array()] = await decode(model, pieces.slice(0, 1));
  const [found = expected] = await decode(lowered, pieces.slice(0, 1));
  expect(worst(found, expected)).toBeLessThan(5e-6);
});

/** Replaces a constant and says why attention then stays as it is. */
const refusals: { readonly [what: string]: { readonly edit: (model: Model) => void; readonly reason: RegExp } } = {
  'a window of 16 tokens': {
    edit: ({ graph }) => {
      graph.addInitializer('window', tensorFromInts('int64', [], [16]));
      for (const node of graph.walk({ opType: 'Sub' })) {
        graph.addNode({ opType: 'Mod', inputs: [node.outputs[0] ?? '', 'window'], outputs: ['mod'] });
        for (const reader of graph.consumers(node.outputs[0] ?? ''))
          if (reader.opType === 'Unsqueeze') reader.setInput(0, 'mod');
      }
    },
    reason: /may not be causal/,
  },
  'a bias by distance': {
    edit: ({ graph }) => {
      graph.addInitializer('slopes', tensorFromFloats([4, 1, 1], [1, 0.5, 0.25, 0.125]));
      for (const node of graph.walk({ opType: 'Add' })) {
        if (node.inputs[1] !== 'mask') continue;
        const outputs = [graph.uniqueName('biased')];
        graph.addNode({ opType: 'Mul', inputs: ['mask', 'slopes'], outputs }, { before: node });
        node.setInput(1, outputs[0] ?? '');
      }
    },
    reason: /may not be causal/,
  },
  'no mask at all': {
    edit: ({ graph }) => {
      for (const node of graph.walk({ opType: 'Add' }))
        if (node.inputs[1] === 'mask') graph.replaceUses(node.outputs[0] ?? '', node.inputs[0] ?? '');
    },
    reason: /no mask/,
  },
};

test('attention stays in plain operators where the kernel knows no such heads', () => {
  const { choices } = lowerModel(buildLlama({ ...sizes, hidden: 32 }), board);
  expect(choices[0]?.reason).toContain('heads of 8');
});

test.each(Object.entries(refusals))('attention stays in plain operators: %s', (_, { edit, reason }) => {
  const model = buildLlama(sizes);
  edit(model);
  const { model: lowered, choices } = lowerModel(model, board);
  expect(kernels(lowered)).toContain('Softmax');
  expect(choices.find(({ op }) => op === 'Softmax')?.reason).toMatch(reason);
});

test('positions that the kernel cannot compute stay outside of it', async () => {
  const model = buildLlama(sizes, randomWeights(2));
  const table = model.graph.initializers.get('cos_table');
  const uneven = new Float32Array((table?.bytes() ?? new Uint8Array()).slice().buffer).map(
    (value, i) => value * (1 + (i % 3)),
  );
  model.graph.addInitializer('cos_table', tensorFromFloats(table?.dims ?? [], uneven));
  const lowered = lowerModel(model, board, { cache: 'in-place' });
  expect(lowered.choices[0]?.reason).toContain('left outside');
  const expected = await decode(model, pieces);
  const found = await decode(lowered.model, pieces);
  for (const [i, logits] of found.entries()) expect(worst(logits, expected[i] ?? logits)).toBeLessThan(5e-6);
});
