import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Model, writeModel } from '@flotilla/onnx';
import { constantsOf } from './source.ts';

/** protobuf ends at 2 GiB; weights of a model this big lie beside it. */
const INLINE_BYTES = 1.5e9;

/** A model on disk: the graph first, then its external data where there is any. */
export interface SavedModel {
  readonly files: readonly [graph: string, ...data: string[]];
  readonly bytes: number;
}

/**
 * Writes a model in one file, or with `<name>.data` beside it where it is too big for one. Flushed only if asked for: most
 * lie in a work folder, which counts for nothing after a power cut.
 */
export async function saveModel(
  model: Model,
  path: string,
  { flush = false }: { readonly flush?: boolean | undefined } = {},
): Promise<SavedModel> {
  const bytes = [...constantsOf(model)].reduce((sum, tensor) => sum + tensor.byteLength, 0);
  const data = `${basename(path)}.data`;
  const beside = bytes > INLINE_BYTES;
  await writeModel(model, path, { externalData: beside ? { location: data, minBytes: 1024 } : 'inline', flush });
  const files: SavedModel['files'] = beside ? [path, join(dirname(path), data)] : [path];
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  return { files, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}
