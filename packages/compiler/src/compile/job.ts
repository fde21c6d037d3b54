import { join } from 'node:path';
import type { Board } from '@flotilla/boards';
import { keepConstantsIn, ScratchFile } from '@flotilla/onnx';
import type { DataSet } from '../data/data-set.ts';
import { openData } from '../data/open-data.ts';
import type { Judged } from '../evaluate/judge.ts';
import { CompilerError } from '../errors.ts';
import { loadOnnx } from '../evaluate/load-onnx.ts';
import type { LoadedBase } from '../lora/base.ts';
import type { Recipe } from '../recipe.ts';
import { type Splits, splitData } from '../splits/split-data.ts';
import { type Beside, openBeside } from './beside.ts';
import type { CompileOptions } from './options.ts';
import { loadBaseWeights } from './load-base.ts';
import { baseWarnings, mergeAdapters } from './merge-adapters.ts';
import { recipeWarnings } from './recipe-of.ts';
import { saveModel } from './save-model.ts';
import { isSpilled, isUnrun, UNRUN_WARNING } from './size-rules.ts';
import type { Source } from './source.ts';
import { unrunSession } from './unrun-session.ts';

/** What stays the same through one compilation. */
export interface Job {
  readonly folder: string;
  readonly recipe: Recipe;
  readonly boards: readonly Board[];
  /** The model with its adapters merged, unless they stay beside it. */
  readonly source: Source;
  /** What `--base` gave. */
  readonly base: LoadedBase | undefined;
  readonly beside: readonly Beside[];
  /** With the first adapter merged, where any stay beside the base; where `unrun`, its inputs are known and no more. */
  readonly fp32: Judged;
  /** The model is large and nothing asks for it to be run. */
  readonly unrun: boolean;
  readonly splits: Splits;
  /** Beside those of the passes. */
  readonly warnings: readonly string[];
}

/** Opens model and data; whoever calls closes `fp32`. */
export async function openJob(
  source: Source,
  plan: Pick<Job, 'folder' | 'recipe' | 'boards'>,
  options: CompileOptions,
): Promise<Job> {
  const { signal, threads = 1 } = options;
  const unrun = isUnrun(source, options);
  options.onProgress?.({ step: 'load', done: 0, total: undefined });
  if (isSpilled(source.bytes)) keepConstantsIn(source.model, new ScratchFile(join(plan.folder, 'constants')));
  const base = await loadBaseWeights(source, options);
  const beside = await openBeside(source, plan.folder, options);
  const isMerged = (await mergeAdapters(source, options)).length > 0 || base !== undefined;
  const merged = join(plan.folder, 'fp32.onnx');
  if (isMerged && beside.length === 0 && !unrun) await saveModel(source.model, merged);
  const path32 = beside[0]?.merged.files[0] ?? (isMerged ? merged : source.folder.onnxPath);
  const fp32 = unrun
    ? { session: unrunSession(source.model, path32), text: undefined }
    : await loadOnnx(path32, source.tokenizer, { threads, signal });
  try {
    const { inputs } = fp32.session;
    const open = async (data: string | undefined): Promise<DataSet | undefined> =>
      data === undefined ? undefined : suited(await openData(data, { inputs, preprocess: options.preprocess }), source);
    const [data, evaluation] = [await open(options.data), await open(options.eval)];
    return {
      ...plan,
      source,
      beside,
      fp32,
      unrun,
      splits: await splitData(data, evaluation, { search: (options.budget ?? []).length > 0 }),
      base,
      warnings: [
        ...recipeWarnings(options),
        ...(unrun ? [UNRUN_WARNING] : []),
        ...(base?.warnings ?? []),
        ...(await baseWarnings(source, options)),
      ],
    };
  } catch (error) {
    await fp32.session.close();
    throw error;
  }
}

function suited(data: DataSet, { tokenizer, folder }: Source): DataSet {
  if (data.kind === 'tensor' || tokenizer) return data;
  const message = `${data.path} holds text, and no tokenizer.json lies beside ${folder.onnxPath}`;
  throw new CompilerError('compiler/data', message, { where: data.path, hint: 'give arrays, as .npz, or the folder' });
}
