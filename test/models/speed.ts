import { compareLatency, type LatencyReport } from '@flotilla/compiler';
import { openRuntime, spawnSession } from '@flotilla/runtime';
import { type Build, fp32Path } from './builds.ts';
import { speedFeeds } from './feeds.ts';

/** A pack beside its fp32 model on this machine, one thread, in turns. */
export async function compareSpeed(model: Build['model'], pack: string, seconds = 0.2): Promise<LatencyReport> {
  const fp32 = await spawnSession(fp32Path(model), { threads: 1 });
  try {
    const runtime = await openRuntime(pack, { threads: 1 });
    try {
      return await compareLatency(fp32, runtime.session, (inputs) => speedFeeds(model, inputs), { seconds });
    } finally {
      await runtime.close();
    }
  } finally {
    await fp32.close();
  }
}
