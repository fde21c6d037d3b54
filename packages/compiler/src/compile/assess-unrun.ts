import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import { openModel } from '@flotilla/onnx';
import { findCliffs } from '../cliff/find-cliffs.ts';
import { refuseCliffs } from '../cliff/refuse-cliffs.ts';
import type { Evidence } from './assess.ts';
import type { Job } from './job.ts';
import type { CompileOptions } from './options.ts';
import type { SavedModel } from './save-model.ts';

/**
 * What can be said of a model without running it: whether every quantized group finds its kernel on this machine. For
 * that its graph is lowered, and none of its weights.
 */
export async function assessUnrun(
  { boards }: Job,
  portable: SavedModel,
  { signal, force = false, onProgress }: CompileOptions,
): Promise<Evidence> {
  onProgress?.({ step: 'lower', done: 0, total: undefined });
  const host = await loadBoard('host');
  const lowered = lowerModel(await openModel(portable.files[0], { signal }), host, { planOnly: true });
  return {
    verdict: null,
    latency: null,
    memory: null,
    golden: { cases: [], tolerance: {} },
    onTarget: boards.some(({ boardClass }) => boardClass === host.boardClass),
    warnings: refuseCliffs(findCliffs(lowered.model.graph, host.boardClass), host, force),
  };
}
