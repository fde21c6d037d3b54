import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Board } from '@flotilla/boards';
import type { Branch, Choice } from '@flotilla/lowering';
import { describeFile, type FileDigest } from './file-digest.ts';
import { constantBytes } from './weights-bytes.ts';

/** What lies beside a lowered model: how to load it, and what its files must be. */
export interface LoweredFacts {
  readonly session: { readonly [key: string]: string };
  readonly choices: readonly Choice[];
  readonly weightsBytes: number;
  readonly files: readonly FileDigest[];
}

/** A portable model, what it is lowered for, and the layers that adapters change. */
export interface LoweringPlan {
  readonly modelPath: string;
  readonly board: Board;
  readonly branches: readonly Branch[];
}

export const LOWERED_MODEL = 'model.onnx';
/** Weights beside the graph are mapped, not copied: a 108 MB model so takes 108 MB of memory and not 175. */
const LOWERED_DATA = 'model.data';
export const LOWERED_FACTS = 'lowered.json';

/**
 * Lowers a model file for a board into a folder that exists: model, data and facts, not yet synced.
 * @throws {OnnxError} for a model that cannot be read; {LoweringError}
 */
export async function lowerFile({ modelPath, board, branches }: LoweringPlan, folder: string): Promise<void> {
  const [{ openModel, writeModel }, { addBranches, lowerModel }] = await Promise.all([
    import('@flotilla/onnx'),
    import('@flotilla/lowering'),
  ]);
  const { model, session, choices } = lowerModel(await openModel(modelPath), board, { cache: 'in-place' });
  addBranches(model, branches);
  const externalData = { location: LOWERED_DATA, minBytes: 4096 };
  await writeModel(model, join(folder, LOWERED_MODEL), { externalData });
  const files = [
    await describeFile(folder, LOWERED_MODEL),
    await describeFile(folder, LOWERED_DATA).catch(() => undefined),
  ];
  const facts: LoweredFacts = {
    session,
    choices,
    weightsBytes: constantBytes(model.graph),
    files: files.filter((file) => file !== undefined),
  };
  await writeFile(join(folder, LOWERED_FACTS), JSON.stringify(facts), { flag: 'wx', flush: true });
}
