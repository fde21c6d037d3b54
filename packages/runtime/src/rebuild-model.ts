import { readFile } from 'node:fs/promises';
import { askApart, type ApartOptions } from './ask-apart.ts';

/** A model file that is made of another one. */
export interface RebuildPlan {
  /** The base: a portable model in one file. */
  readonly basePath: string;
  /** The adapter's factors, as a pack has them in its file of role `rebuild`. */
  readonly factorsPath: string;
  /** Where the result goes, flushed. */
  readonly outPath: string;
}

/**
 * Merges an adapter's factors into a base's portable model and quantizes the changed weights again: the same inputs give
 * the same bytes on every machine, so that a device can make the model that a pack names by its digest. Whoever calls
 * compares the digests.
 * @throws {RuntimeError} `runtime/rebuild`; from a child also `runtime/crashed`, `runtime/timeout`, `runtime/memory`
 */
export async function rebuildModel(plan: RebuildPlan, options: ApartOptions = {}): Promise<void> {
  if (options.isolate === false) await rebuildHere(plan);
  else await askApart({ kind: 'rebuild', plan }, options);
}

/** The same in this process. @throws what onnx, lowering, quant and pack throw */
export async function rebuildHere({ basePath, factorsPath, outPath }: RebuildPlan): Promise<void> {
  const [{ openModel, writeModel }, lowering, { readAdapter }] = await Promise.all([
    import('@flotilla/onnx'),
    import('@flotilla/lowering'),
    import('@flotilla/pack'),
  ]);
  const { parts } = readAdapter(new Uint8Array(await readFile(factorsPath)));
  const model = await openModel(basePath);
  lowering.rebuildModel(model, parts);
  await writeModel(model, outPath, { externalData: 'inline' });
}
