import { join } from 'node:path';
import type { Board } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import { openModel } from '@flotilla/onnx';
import type { TextTokenizer } from '@flotilla/runtime';
import type { Judged } from '../evaluate/judge.ts';
import { loadOnnx } from '../evaluate/load-onnx.ts';
import { type SavedModel, saveModel } from './save-model.ts';

interface LowerOptions {
  readonly folder: string;
  readonly threads: number;
  readonly tokenizer: TextTokenizer | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Loads a portable model as a board would run it: lowered, with the session settings that lowering chose. */
export async function loadLowered(portable: SavedModel, board: Board, options: LowerOptions): Promise<Judged> {
  const { folder, threads, tokenizer, signal } = options;
  const lowered = lowerModel(await openModel(portable.files[0], { signal }), board);
  const path = join(folder, `lowered-${board.boardClass}.onnx`);
  await saveModel(lowered.model, path);
  return loadOnnx(path, tokenizer, { threads, config: lowered.session, signal });
}
