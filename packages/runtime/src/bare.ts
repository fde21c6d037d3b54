import { openSession } from './local-session.ts';
import { median } from './profile.ts';
import { toOrt } from './tensors.ts';
import type { SessionOptions, Tensors } from './types.ts';

export interface BareComparison {
  readonly runs: number;
  readonly bareUs: number;
  readonly oursUs: number;
  /** `oursUs / bareUs − 1`. */
  readonly overhead: number;
}

/**
 * What this runtime adds to ONNX Runtime: medians of the same session run bare (`InferenceSession.run` on tensors that
 * were made beforehand) and through `Session.run`, turn about, so that a change of clock meets both.
 */
export async function compareWithBare(
  modelPath: string,
  feeds: Tensors,
  options: SessionOptions & { readonly runs?: number | undefined } = {},
): Promise<BareComparison> {
  const { runs = 200, ...sessionOptions } = options;
  const ort = await import('onnxruntime-node');
  const session = await openSession(modelPath, sessionOptions);
  const bareFeeds = Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, toOrt(ort.Tensor, value)]));
  const bare: number[] = [];
  const ours: number[] = [];
  const turns = [
    {
      times: bare,
      run: () => (session.fetches ? session.bare.run(bareFeeds, session.fetches) : session.bare.run(bareFeeds)),
    },
    { times: ours, run: () => session.run(feeds) },
  ];
  for (let i = -5; i < runs; i++)
    for (const { times, run } of i % 2 === 0 ? turns : turns.toReversed()) {
      const start = performance.now();
      await run();
      if (i >= 0) times.push((performance.now() - start) * 1000);
    }
  await session.close();
  const bareUs = median(bare);
  const oursUs = median(ours);
  return { runs, bareUs, oursUs, overhead: oursUs / bareUs - 1 };
}
