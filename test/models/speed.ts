import { compareLatency, type LatencyReport } from '@flotilla/compiler';
import { openRuntime, spawnSession } from '@flotilla/runtime';
import { type Build, fp32Path } from './builds.ts';
import { speedFeeds } from './feeds.ts';

/** A pack and its fp32 model, both loaded with one thread. */
export interface SpeedPair {
  /** Measures both in turns. */
  compare(seconds?: number): Promise<LatencyReport>;
  close(): Promise<void>;
}

/** Loads a pack beside its fp32 model on this machine, so that measuring can wait until nothing else runs. */
export async function openSpeedPair(model: Build['model'], pack: string): Promise<SpeedPair> {
  const fp32 = await spawnSession(fp32Path(model), { threads: 1 });
  try {
    const runtime = await openRuntime(pack, { threads: 1 });
    return {
      compare: (seconds = 0.2) =>
        compareLatency(fp32, runtime.session, (inputs) => speedFeeds(model, inputs), { seconds }),
      async close() {
        await Promise.all([runtime.close(), fp32.close()]);
      },
    };
  } catch (error) {
    await fp32.close();
    throw error;
  }
}
