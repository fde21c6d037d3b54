import { mkdir, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { OnnxError } from './errors.ts';
import { type ExternalFolder, pathFault } from './external.ts';
import { maxModelBytes, ownModel } from './open-model.ts';
import { inlined, outside, type Placing } from './placing.ts';
import { replaceFile } from './replace-file.ts';
import { Rope } from './rope.ts';
import { StoredTensor } from './tensor.ts';
import type { Model } from './types.ts';

/** What becomes of weights: left where they are, brought inside, or initializers of some size moved to one file beside the model. */
export type ExternalData = 'keep' | 'inline' | { readonly location: string; readonly minBytes: number };

/**
 * The model's bytes, external data brought inside. A model that was not edited gives its own bytes back.
 * @throws {OnnxError} `onnx/too-large`, and what reading the external data throws
 */
export function encodeModel(model: Model): Uint8Array {
  const rope = ropeOf(model, 'inline');
  checkSize(rope, 'the model');
  return rope.toBytes();
}

/**
 * Writes the model beside `path`, flushes it and renames it into place: the old file stays whole until the new one is.
 * What was not edited is copied from file to file. `externalData` is 'keep' unless said otherwise: references stay,
 * and data files are copied along into another folder. `flush: false` is for files that nobody needs after a power cut.
 * @throws {OnnxError} `onnx/write-target` if a link, folder or device has the name; `onnx/write`; `onnx/too-large`
 */
export async function writeModel(
  model: Model,
  path: string,
  options: { readonly externalData?: ExternalData | undefined; readonly flush?: boolean | undefined } = {},
): Promise<void> {
  const { externalData = 'keep', flush = true } = options;
  const own = ownModel(model);
  if (typeof externalData === 'object') {
    const fault = pathFault(externalData.location);
    if (fault !== undefined || externalData.location.includes('/'))
      throw new OnnxError('onnx/external-path', `"${externalData.location}" ${fault ?? 'is not beside the model'}`);
    const data = new Rope();
    const rope = own.rope(moveOutside(data, externalData));
    checkSize(rope, path);
    await replaceFile(join(dirname(path), externalData.location), data, flush);
    await replaceFile(path, rope, flush);
    return;
  }
  const rope = ropeOf(model, externalData);
  checkSize(rope, path);
  if (externalData === 'keep') await copyAlong(own.folder, dirname(path), flush);
  await replaceFile(path, rope, flush);
}

function ropeOf(model: Model, externalData: 'keep' | 'inline'): Rope {
  const own = ownModel(model);
  return own.rope(externalData === 'inline' && own.folder.locations.size > 0 ? bringInside : undefined);
}

/** Data files are read as safely as when the model is. */
async function copyAlong(folder: ExternalFolder, target: string, flush: boolean): Promise<void> {
  if (folder.locations.size === 0 || folder.root === (await realpath(target))) return;
  for (const location of folder.locations) {
    await mkdir(dirname(join(target, location)), { recursive: true });
    await replaceFile(join(target, location), folder.wholeFile(location), flush);
  }
}

const bringInside: Placing = (tensor) =>
  tensor instanceof StoredTensor && tensor.external !== undefined ? inlined(tensor) : undefined;

/** Offsets at page size, so that a runtime can map them. */
const alignment = 4096;

function moveOutside(data: Rope, { location, minBytes }: { location: string; minBytes: number }): Placing {
  return (tensor, isInitializer) => {
    if (!isInitializer || tensor.dtype === 'string' || tensor.byteLength < minBytes)
      return bringInside(tensor, isInitializer);
    data.add(new Uint8Array((alignment - (data.size % alignment)) % alignment));
    const offset = data.size;
    data.addRope(tensor.dataRope());
    return outside(tensor, { location, offset });
  };
}

function checkSize(rope: Rope, name: string): void {
  if (rope.size > maxModelBytes)
    throw new OnnxError('onnx/too-large', `${name} would have ${rope.size} bytes: protobuf ends at 2 GiB`, {
      where: name,
      hint: 'write it with externalData: { location, minBytes }',
    });
}
