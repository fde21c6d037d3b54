import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Model, writeModel } from '@flotilla/onnx';
import { openSession, type Session } from '@flotilla/runtime';

export interface ModelSessionOptions {
  readonly optimization?: 'disabled' | 'basic' | 'all' | undefined;
  /** Of products by 4-bit weights: 4 rounds activations to 8 bits, 1 leaves them floats. Default 4. */
  readonly accuracyLevel?: 1 | 4 | undefined;
}

/** Loads a model that so far exists only in memory, by way of a temporary folder that goes when the session closes. */
export async function openModelSession(model: Model, options: ModelSessionOptions = {}): Promise<Session> {
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-model-'));
  const drop = () => rm(dir, { recursive: true, force: true });
  try {
    const path = join(dir, 'model.onnx');
    // Beside the graph: ONNX Runtime maps external data, and protobuf stops at 2 GiB.
    await writeModel(model, path, { externalData: { location: 'model.data', minBytes: 1 << 16 }, flush: false });
    // Threads that wait by spinning cost more than they gain: between runs JavaScript works, and compilations run side by side.
    const config = {
      'session.intra_op.allow_spinning': '0',
      'session.qdq_matmulnbits_accuracy_level': String(options.accuracyLevel ?? 4),
    };
    const session = await openSession(path, { threads: 2, config, optimization: options.optimization });
    return {
      inputs: session.inputs,
      outputs: session.outputs,
      run: (feeds, runOptions) => session.run(feeds, runOptions),
      close: async () => {
        await session.close();
        await drop();
      },
    };
  } catch (error) {
    await drop();
    throw error;
  }
}
