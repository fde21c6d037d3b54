import { stat } from 'node:fs/promises';
import { openModelFolder, type ModelFolder } from '@flotilla/checkpoint';
import { elementCount, functionOps, type Model, openModel, type Tensor } from '@flotilla/onnx';
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
  refuseHalf(model, path);
  return {
    folder,
    model,
    bytes: fileBytes + externalBytes(model, fileBytes),
    parameters: [...constantsOf(model)].filter(isFloat).reduce((sum, tensor) => sum + elementCount(tensor), 0),
    tokenizer: await loadFolderTokenizer(folder),
  };
}

const quantizedOps =
  /^(DequantizeLinear|MatMulNBits|MatMulBnb4|GatherBlockQuantized|MatMulInteger|ConvInteger|DynamicQuantize|QLinear|QGemm|QMoE)/;

function refuseQuantized(model: Model, path: string): void {
  for (const node of model.graph.walk()) {
    if (quantizedOps.test(node.opType)) {
      throw quantizedAlready(path, `node ${node.name || node.outputs[0]} is ${node.opType}`);
    }
  }
  const within = functionOps(model).find((opType) => quantizedOps.test(opType));
  if (within !== undefined) throw quantizedAlready(path, `a function of its own has ${within}`);
}

/** Half precision has rounded the weights once; rounded again, they would be judged against a reference that is not fp32. */
function refuseHalf(model: Model, path: string): void {
  const bytes = { half: 0, all: 0 };
  for (const tensor of constantsOf(model)) {
    if (!isFloat(tensor)) continue;
    bytes.all += tensor.byteLength;
    if (tensor.dtype.endsWith('float16')) bytes.half += tensor.byteLength;
  }
  if (bytes.half <= bytes.all / 2 || bytes.half === 0) return;
  const message = `${path} holds its weights in half precision`;
  throw new CompilerError('compiler/not-yet', message, { where: path, hint: 'compile the fp32 model' });
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
