import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeModel, floats, openModel, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import { createPack, type GoldenCase, type PackConfig, type PrivateKey, writeGolden } from '@flotilla/pack';
import { quantizeInt4 } from '@flotilla/quant';
import { addOne } from './tiny-models.ts';

export const LLAMA = 'test/fixtures/models/wordnet-llama-4m';

/** The language model with 4-bit weights in blocks of 32, as the compiler would write it. */
export async function int4Llama(): Promise<Uint8Array> {
  const model = await openModel(join(LLAMA, 'model.onnx'));
  const { graph } = model;
  model.setOpset('', 21);
  model.setIrVersion(10);
  for (const node of graph.walk({ opType: 'ReduceMean' })) {
    const axes = graph.uniqueName('axes'); // an input since opset 18
    graph.addInitializer(axes, tensorFromInts('int64', [1], node.ints('axes', [])));
    node.setInput(1, axes);
    node.setAttribute('axes', undefined);
  }
  const products = [...graph.walk({ opType: 'MatMul' })];
  for (const node of products) {
    const [, weight = ''] = node.inputs;
    const tensor = graph.constant(weight);
    if (tensor?.dims.length !== 2) continue;
    const [k = 0, n = 0] = tensor.dims;
    const { q, scale, zeroPoint } = quantizeInt4(floats(tensor), { rows: 1, cols: k, inner: n, block: 32 });
    const names = ['q', 'scale', 'zero'].map((part) => graph.uniqueName(`${weight}_${part}`)) as [
      string,
      string,
      string,
    ];
    graph.addInitializer(names[0], { dtype: 'uint4', dims: [k, n], bytes: q });
    graph.addInitializer(names[1], tensorFromFloats([k / 32, n], scale));
    graph.addInitializer(names[2], { dtype: 'uint4', dims: [k / 32, n], bytes: zeroPoint ?? q });
    const output = graph.uniqueName(`${weight}_w`);
    const attributes = { axis: { int: 0 }, block_size: { int: 32 } };
    graph.addNode({ opType: 'DequantizeLinear', inputs: names, outputs: [output], attributes }, { before: node });
    node.setInput(1, output);
  }
  graph.removeDead();
  return encodeModel(model);
}

export async function packOf(
  model: Uint8Array,
  task: 'tensor' | 'text',
  golden: readonly GoldenCase[] | null,
  tolerance: NonNullable<PackConfig['golden']>['tolerance'],
  key?: PrivateKey,
): Promise<string> {
  const out = join(await mkdtemp(join(tmpdir(), 'runtime-')), 'model.pack');
  const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'generation_config.json'];
  const texts = task === 'text' ? names : [];
  const files = await Promise.all(
    texts.map(async (path) => ({ path, role: 'tokenizer' as const, source: await readFile(join(LLAMA, path)) })),
  );
  await createPack(
    out,
    {
      name: 'test',
      task,
      weights: 'int4',
      parameters: 1,
      sourceBytes: 1,
      golden: golden && { path: 'golden.safetensors', tolerance },
      latencyBudgetUs: {},
      annotations: {},
      files: [
        { path: 'model.onnx', role: 'model', source: model },
        ...(golden ? [{ path: 'golden.safetensors', role: 'golden', source: writeGolden(golden) }] : []),
        ...files,
      ],
    },
    { key },
  );
  return out;
}

const float = (dims: number[], ...data: number[]) => ({
  dtype: 'float32' as const,
  dims,
  data: Float32Array.from(data),
});

/** `y = x + 1`, whose golden vectors expect `wrong` more than that. */
export function addOnePack(wrong = 0, key?: PrivateKey): Promise<string> {
  const golden = [
    { name: 'small', inputs: { x: float([1, 2], 1, 2) }, outputs: { y: float([1, 2], 2, 3) } },
    { name: 'large', inputs: { x: float([1, 2], 99, 0) }, outputs: { y: float([1, 2], 100 + wrong, 1) } },
  ];
  return packOf(addOne, 'tensor', golden, { x64: { atol: 0, rtol: 1e-3 }, arm64: { atol: 1, rtol: 0 } }, key);
}
