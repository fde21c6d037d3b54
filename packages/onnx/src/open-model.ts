import { dirname, join } from 'node:path';
import { OnnxError } from './errors.ts';
import { ExternalFolder } from './external.ts';
import { Message } from './message.ts';
import { OnnxModel } from './model.ts';
import type { ScratchFile } from './scratch.ts';
import { MemorySource, openSource, type Source } from './source.ts';
import type { Model } from './types.ts';

/** protobuf's limit on a message. */
export const maxModelBytes = 2 ** 31 - 1;

/**
 * Opens a model by ranges: names and structure are read, weights are not. External data is looked for in its folder, safely.
 * @throws {OnnxError} `onnx/file`, `onnx/not-a-model`, `onnx/malformed`, `onnx/too-deep`, `onnx/too-large`, and what is wrong with an initializer
 */
export async function openModel(
  path: string,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<Model> {
  options.signal?.throwIfAborted();
  return readModel(openSource(path), new ExternalFolder(dirname(path)));
}

/** The same of bytes, which the model goes on to use: do not change them. `name` is what errors call them. */
export function decodeModel(
  bytes: Uint8Array,
  options: { readonly baseDir?: string | undefined; readonly name?: string | undefined } = {},
): Model {
  // A Buffer would give Buffers back.
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return readModel(new MemorySource(plain, options.name ?? 'the model'), new ExternalFolder(options.baseDir));
}

/** A model of its own: edits of one do not show in the other. Tensors and bytes are shared. */
export function cloneModel(model: Model): Model {
  const original = ownModel(model);
  return new OnnxModel(original.message, original.folder, original);
}

/** From now on, constants that are added to the model or its clones are written to the file and read when they are asked for. */
export function keepConstantsIn(model: Model, file: ScratchFile): void {
  ownModel(model).scratch = file;
}

/** The files that the model's external data lies in. */
export function dataFiles(model: Model): readonly string[] {
  const { root, locations } = ownModel(model).folder;
  return root === undefined ? [] : [...locations].map((location) => join(root, location));
}

export function ownModel(model: Model): OnnxModel {
  if (model instanceof OnnxModel) return model;
  throw new TypeError('a Model must come from openModel, decodeModel, buildModel or cloneModel');
}

function readModel(source: Source, folder: ExternalFolder): OnnxModel {
  if (source.size > maxModelBytes)
    throw new OnnxError('onnx/too-large', `${source.name} has ${source.size} bytes: protobuf ends at 2 GiB`, {
      where: source.name,
      hint: 'export the weights as external data',
    });
  const message = new Message(source, { start: 0, end: source.size }, 1);
  try {
    return new OnnxModel(message, folder);
  } catch (error) {
    if (error instanceof OnnxError && error.code === 'onnx/malformed' && !startsLikeModel(source))
      throw new OnnxError('onnx/not-a-model', `${source.name} is not an ONNX model`, {
        where: source.name,
        cause: error,
      });
    throw error;
  }
}

/** Fields of ModelProto with their wire types. Text, archives and pictures begin with something else. */
const modelFields: ReadonlyMap<number, number> = new Map([
  ...[1, 5].map((number) => [number, 0] as const),
  ...[2, 3, 4, 6, 7, 8, 14, 20, 25, 26].map((number) => [number, 2] as const),
]);

function startsLikeModel(source: Source): boolean {
  const byte = source.size > 0 ? source.byte(0) : 0;
  // All have numbers under 16 or, from 16 on, a second byte of 1.
  const number = byte < 128 ? byte >> 3 : ((byte & 127) >> 3) | ((source.size > 1 ? source.byte(1) : 0) << 4);
  return modelFields.get(number) === (byte & 7);
}
