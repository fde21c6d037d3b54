import type { Model } from '@flotilla/onnx';
import type { LoadedSession } from '@flotilla/runtime';
import { sessionInputs } from '../inspect/model-inputs.ts';

/** Stands for a model that is not loaded: its inputs are known, nothing runs. */
export function unrunSession(model: Model, path: string): LoadedSession {
  const refuse = (): never => {
    throw new Error(`${path} is not loaded: it is too large to be run`);
  };
  return {
    modelPath: path,
    threads: 0,
    coldStart: { processMs: null, loadMs: 0 },
    inputs: sessionInputs(model),
    outputs: [],
    adapters: [],
    adapter: null,
    use: refuse,
    run: refuse,
    decode: refuse,
    measure: refuse,
    memory: refuse,
    close: () => Promise.resolve(),
  };
}
