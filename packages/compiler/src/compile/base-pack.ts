import { openPack } from '@flotilla/pack';
import { CompilerError } from '../errors.ts';
import type { Note } from '../pass.ts';
import { type Recipe, recipeOfReport } from '../recipe.ts';
import { findPass } from '../registry.ts';

/** What a fleet holds, as far as a model that is rebuilt from it must know. */
export interface BasePack {
  readonly path: string;
  /** Digest of its portable model. */
  readonly model: string;
  readonly weights: string;
  /** What became of each node. */
  readonly notes: readonly Note[];
  /** The rewrites that its model went through before it was quantized. */
  readonly rewrites: Recipe;
}

/**
 * Reads the pack that an update is to be rebuilt from.
 * @param modelTo where its portable model is copied to
 * @throws {CompilerError} `compiler/lora-rebuild` for a model in several files, or without the compiler's report; {PackError}
 */
export async function readBasePack(path: string, modelTo?: string): Promise<BasePack> {
  const pack = await openPack(path);
  try {
    const { files, weights } = pack.config;
    const model = files.find(({ role }) => role === 'model');
    if (!model || files.some(({ role }) => role === 'model-data'))
      throw refusal(path, 'its model lies in several files, and is not rebuilt');
    const report = files.find(({ role }) => role === 'report');
    const told = report && parsed(await pack.file(report.path));
    const recipe = recipeOfReport(told);
    if (!recipe)
      throw refusal(path, 'it does not tell how it was compiled, or tells of passes that are not known here');
    if (modelTo !== undefined) await pack.extract(model.path, modelTo);
    const passes = recipe.passes.filter(({ pass }) => findPass(pass)?.stage === 'rewrite');
    return { path, model: model.digest, weights, notes: notesOf(told), rewrites: { ...recipe, passes } };
  } finally {
    await pack.close();
  }
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}

function notesOf(report: unknown): readonly Note[] {
  const { notes } = report as { readonly notes?: unknown };
  return Array.isArray(notes) ? (notes as Note[]) : [];
}

export function refusal(where: string, problem: string, hint?: string): CompilerError {
  return new CompilerError('compiler/lora-rebuild', `${where}: ${problem}`, { where, hint });
}
