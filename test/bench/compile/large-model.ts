import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type NewTensor, ScratchFile, TensorInFile, tensorFromFloats, writeModel } from '@flotilla/onnx';
import { buildLlama, type LlamaSizes, randomWeights } from '../../models/random-llama.ts';

const sizes = { hidden: 2048, heads: 32, kvHeads: 4, ffn: 5632, vocabulary: 32_000, positions: 2048 };

/**
 * Writes a random-weight Llama of at least so many gigabytes of fp32, and over one (from there on the compiler works without
 * running the model), with its weights in a file beside it. Of the weights one matrix at a time is in memory.
 * @returns the graph's path, and that of the weights
 */
export async function writeLargeModel(folder: string, gigabytes: number): Promise<readonly [string, string]> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, 'model.onnx');
  const scratchPath = join(folder, 'weights');
  const scratch = new ScratchFile(scratchPath);
  const matrices = new Map<string, NewTensor>();
  const none = tensorFromFloats([1], [0]);
  // A model is built in one piece, so its matrices come in afterwards.
  const model = buildLlama(sizesOf(gigabytes), randomWeights(), (name, matrix) => {
    matrices.set(name, new TensorInFile(matrix, scratch.add(matrix.bytes)));
    return none;
  });
  for (const [name, matrix] of matrices) {
    model.graph.removeInitializer(name);
    model.graph.addInitializer(name, matrix);
  }
  await writeModel(model, path, { externalData: { location: 'model.onnx.data', minBytes: 1024 } });
  await rm(scratchPath);
  return [path, join(folder, 'model.onnx.data')];
}

function sizesOf(gigabytes: number): LlamaSizes {
  const { hidden, heads, kvHeads, ffn, vocabulary } = sizes;
  const perLayer = 2 * hidden ** 2 * (1 + kvHeads / heads) + 3 * hidden * ffn;
  const wanted = Math.max(gigabytes, 1.01) * 2.5e8;
  return { ...sizes, layers: Math.ceil((wanted - 2 * vocabulary * hidden) / perLayer) };
}
