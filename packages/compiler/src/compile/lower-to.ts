import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import type { Board } from '@flotilla/boards';
import { addBranches, lowerModel } from '@flotilla/lowering';
import { openModel } from '@flotilla/onnx';
import { branchesOf, type SessionOptions, type TextTokenizer } from '@flotilla/runtime';
import { type Cliff, findCliffs } from '../cliff/find-cliffs.ts';
import type { Judged } from '../evaluate/judge.ts';
import { loadOnnx } from '../evaluate/load-onnx.ts';
import { type SavedModel, saveModel } from './save-model.ts';

interface LowerOptions {
  readonly folder: string;
  readonly threads: number;
  readonly tokenizer: TextTokenizer | undefined;
  /** What the file is called. Default 'lowered'. */
  readonly name?: string | undefined;
  /** Files of adapters that lie beside the model. */
  readonly adapters?: readonly Uint8Array[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A portable model as one class of boards runs it. */
export interface LoweredFile {
  readonly board: Board;
  readonly path: string;
  /** Session settings that lowering chose. */
  readonly config: { readonly [key: string]: string } | undefined;
  /** Of the lowered files: two classes with one digest run the same kernels here. */
  readonly digest: string;
  /** How far the board's own kernels may be from what runs here: see `Lowered.spread`. */
  readonly spread: number;
  readonly cliffs: readonly Cliff[];
  /** Whether values are rounded to integers of fixed scales on the way. */
  readonly roundsValues: boolean;
  load(options?: LoadOptions): Promise<Judged>;
}

/** Where ONNX Runtime writes what its optimizer makes of the graph, and how far that goes. */
export type LoadOptions = Pick<SessionOptions, 'optimizedPath' | 'optimization'>;

/** Lowers a portable model for a board, into the folder; the session settings that lowering chose go with it. */
export async function lowerTo(portable: SavedModel, board: Board, options: LowerOptions): Promise<LoweredFile> {
  const { folder, threads, tokenizer, name = 'lowered', adapters = [], signal } = options;
  const lowered = lowerModel(await openModel(portable.files[0], { signal }), board, { cache: 'in-place' });
  addBranches(lowered.model, branchesOf(adapters));
  const path = join(folder, `${name}-${board.boardClass}.onnx`);
  const { files } = await saveModel(lowered.model, path);
  const hash = createHash('sha256');
  for (const file of files) for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  return {
    board,
    path,
    config: lowered.session,
    digest: hash.digest('hex'),
    spread: lowered.spread,
    cliffs: findCliffs(lowered.model.graph, board.boardClass),
    roundsValues: [...lowered.model.graph.walk({ opType: 'QuantizeLinear' })].length > 0,
    load: (how) => loadOnnx(path, tokenizer, { threads, config: lowered.session, adapters, ...how, signal }),
  };
}
