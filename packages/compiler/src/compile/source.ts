import { stat } from 'node:fs/promises';
import { openModelFolder, type ModelFolder } from '@flotilla/checkpoint';
import { elementCount, type Model, openModel, type Tensor } from '@flotilla/onnx';
import type { TextTokenizer } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import { loadFolderTokenizer } from '../evaluate/load-onnx.ts';
import { isPack } from '../evaluate/open-judged.ts';

/** The model that is to be compiled, opened by range. */
export interface Source {
  readonly folder: ModelFolder;
  readonly model: Model;
  /** The ONNX file and its external data. */
  readonly bytes: number;
  /** Elements of all floating-point constants. */
  readonly parameters: number;
  readonly tokenizer: TextTokenizer | undefined;
}

/** @throws {CompilerError} `compiler/not-yet` for a model that is quantized already; what checkpoint and onnx throw */
export async function openSource(path: string, signal: AbortSignal | undefined): Promise<Source> {
  if (await isPack(path)) throw quantizedAlready(path, 'is a pack');
  const folder = await openModelFolder(path);
  const model = await openModel(folder.onnxPath, { signal });
  const { size: fileBytes } = await stat(folder.onnxPath);
  refuseQuantized(model, path);
  return {
    folder,
    model,
    bytes: fileBytes + externalBytes(model, fileBytes),
    parameters: [...constantsOf(model)].filter(isFloat).reduce((sum, tensor) => sum + elementCount(tensor), 0),
    tokenizer: await loadFolderTokenizer(folder),
  };
}

function refuseQuantized(model: Model, path: string): void {
  for (const node of model.graph.walk()) {
    if (node.opType === 'DequantizeLinear' || node.opType === 'MatMulNBits' || node.opType.startsWith('QLinear')) {
      throw quantizedAlready(path, `node ${node.name || node.outputs[0]} is ${node.opType}`);
    }
  }
}

function quantizedAlready(path: string, why: string): CompilerError {
  const message = `${path} is quantized already: ${why}`;
  return new CompilerError('compiler/not-yet', message, { where: path, hint: 'compile the fp32 model' });
}

/** Initializers and `Constant` nodes, bodies included. */
export function* constantsOf(model: Model): Iterable<Tensor> {
  yield* model.graph.initializers.values();
  for (const node of model.graph.walk()) {
    const value = node.opType === 'Constant' ? node.attributes.get('value') : undefined;
    if (value?.kind === 'tensor') yield value.value;
    for (const body of node.subgraphs) yield* body.initializers.values();
  }
}

/** Of all constants: nearly all of a model's file. */
export function constantBytes(model: Model): number {
  return [...constantsOf(model)].reduce((sum, tensor) => sum + tensor.byteLength, 0);
}

function isFloat({ dtype }: Tensor): boolean {
  return dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16' || dtype === 'float64';
}

/** What the file cannot hold itself lies beside it. */
function externalBytes(model: Model, fileBytes: number): number {
  const all = constantBytes(model);
  return all > fileBytes ? all : 0;
}
