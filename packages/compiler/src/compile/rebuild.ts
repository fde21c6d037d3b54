import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rebuildModel as rebuildGraph } from '@flotilla/lowering';
import { cloneModel, openModel } from '@flotilla/onnx';
import { writeAdapter } from '@flotilla/pack';
import { rebuildModel } from '@flotilla/runtime';
import { branchParts } from '../lora/branch.ts';
import type { Applied } from '../runner.ts';
import { readBasePack } from './base-pack.ts';
import { checkBase } from './check-base.ts';
import type { Job } from './job.ts';
import type { CompileOptions, RebuildReport } from './options.ts';
import type { SavedModel } from './save-model.ts';

/** A model that devices can make of one they have. */
export interface Rebuilt {
  /** As if a recipe had made it: the merged float model, and the result. */
  readonly applied: Applied;
  readonly portable: SavedModel;
  readonly weights: string;
  /** What travels in place of the model. */
  readonly factors: Uint8Array;
  readonly report: RebuildReport;
}

/**
 * Merges the adapter into the base pack's own quantized model, by the function that devices call; undefined where the
 * options do not ask for it.
 * @param cleaned the float base after the rewrites that the base pack went through
 * @throws {CompilerError} `compiler/lora-rebuild`; `compiler/lora-branch` for what factors cannot carry
 */
export async function rebuildOnBase(
  { beside: [adapter], folder }: Job,
  applied: Applied,
  { basePack: path }: CompileOptions,
): Promise<Rebuilt | undefined> {
  if (path === undefined || !adapter) return undefined;
  const { cleaned } = applied;
  const basePath = join(folder, 'base.onnx');
  const base = await readBasePack(path, basePath);
  const quantized = await openModel(basePath);
  const { name, plans } = adapter;
  checkBase(path, cleaned, quantized, plans);
  const parts = branchParts(plans, { cleaned, model: quantized }, 'merged');
  const factors = writeAdapter({ name, model: base.model, parts });
  const [factorsPath, outPath] = [join(folder, 'rebuild.safetensors'), join(folder, 'model.onnx')];
  await writeFile(factorsPath, factors);
  await rebuildModel({ basePath, factorsPath, outPath }, { isolate: false });
  const merged = cloneModel(cleaned);
  rebuildGraph(merged, parts);
  const { size: bytes } = await stat(outPath);
  const rank = Math.max(...parts.map((part) => part.rank));
  return {
    applied: { ...applied, cleaned: merged, model: await openModel(outPath), notes: base.notes },
    portable: { files: [outPath], bytes },
    weights: base.weights,
    factors,
    report: { base: base.model, modules: plans.length, rank, bytes: factors.length },
  };
}
