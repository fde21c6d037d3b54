import { join } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import { keepConstantsIn, openModel, ScratchFile } from '@flotilla/onnx';
import { findCliffs } from '../cliff/find-cliffs.ts';
import { refuseCliffs } from '../cliff/refuse-cliffs.ts';
import type { Evidence } from './assess.ts';
import type { Job } from './job.ts';
import type { CompileOptions } from './options.ts';
import type { SavedModel } from './save-model.ts';

/**
 * What can be said of a model without running it: whether every quantized group finds its kernel on this machine. Its
 * weights are repacked for that, through a file.
 */
export async function assessUnrun(
  { folder, boards }: Job,
  portable: SavedModel,
  { signal, force = false, onProgress }: CompileOptions,
): Promise<Evidence> {
  onProgress?.({ step: 'lower', done: 0, total: undefined });
  const host = await loadBoard('host');
  const model = await openModel(portable.files[0], { signal });
  keepConstantsIn(model, new ScratchFile(join(folder, 'lowered')));
  const lowered = lowerModel(model, host);
  return {
    verdict: null,
    latency: null,
    memory: null,
    golden: { cases: [], tolerance: {} },
    onTarget: boards.some(({ boardClass }) => boardClass === host.boardClass),
    warnings: refuseCliffs(findCliffs(lowered.model.graph, host.boardClass), host, force),
  };
}
