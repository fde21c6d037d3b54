import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { openAdapter } from '@flotilla/checkpoint';
import { cloneModel } from '@flotilla/onnx';
import { writeAdapter } from '@flotilla/pack';
import { checkBaseModel } from '../lora/base-model.ts';
import { type BranchPlan, branchParts, planBranches, type Rewritten } from '../lora/branch.ts';
import { NO_MAP, readLoraMap } from '../lora/lora-map.ts';
import { mergeLora } from '../lora/merge.ts';
import type { CompileOptions } from './options.ts';
import { type SavedModel, saveModel } from './save-model.ts';
import type { Source } from './source.ts';

/** An adapter that is merged on the device or not at all, and the model that it is judged against. */
export interface Beside {
  readonly name: string;
  readonly plans: readonly BranchPlan[];
  /** The float model with the adapter merged. */
  readonly merged: SavedModel;
}

/** An adapter as it lies in the pack. */
export interface PackedAdapter {
  readonly name: string;
  readonly modules: number;
  /** Of the largest factors. */
  readonly rank: number;
  readonly bytes: Uint8Array;
}

/** Opens the adapters that are not merged here; none where they are. */
export async function openBeside(
  { model, folder: from }: Pick<Source, 'model' | 'folder'>,
  folder: string,
  { lora = [], loraMode, loraMap, loraAnyBase = false }: CompileOptions,
): Promise<readonly Beside[]> {
  if ((loraMode ?? 'merge') === 'merge') return [];
  const map = loraMap === undefined ? NO_MAP : await readLoraMap(loraMap);
  const opened: Beside[] = [];
  for (const { dir, weight } of lora) {
    const adapter = await openAdapter(dir);
    if (!loraAnyBase) checkBaseModel(adapter, from);
    const plans = planBranches(model.graph, { adapter, weight }, map);
    const merged = cloneModel(model);
    mergeLora(merged.graph, [{ adapter, weight }], { map });
    merged.graph.removeDead();
    const path = join(folder, `fp32-${opened.length}.onnx`);
    opened.push({ name: nameOf(dir, opened), plans, merged: await saveModel(merged, path) });
  }
  return opened;
}

/** The adapters' files, made for the portable graph as it lies in the pack. */
export async function packAdapters(
  beside: readonly Beside[],
  rewritten: Rewritten,
  portable: SavedModel,
): Promise<readonly PackedAdapter[]> {
  if (beside.length === 0) return [];
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(portable.files[0])) hash.update(chunk as Uint8Array);
  const model = `sha256:${hash.digest('hex')}`;
  return beside.map(({ name, plans }) => {
    const parts = branchParts(plans, rewritten);
    const rank = Math.max(...parts.map((part) => part.rank));
    return { name, modules: plans.length, rank, bytes: writeAdapter({ name, model, parts }) };
  });
}

/** The folder's name, as a file's; a second one of the same name gets a number. */
function nameOf(dir: string, others: readonly { readonly name: string }[]): string {
  const own = basename(resolve(dir))
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 56);
  const name = own === '' ? 'adapter' : own;
  const taken = others.filter((other) => other.name === name || other.name.startsWith(`${name}.`)).length;
  return taken === 0 ? name : `${name}.${taken + 1}`;
}
