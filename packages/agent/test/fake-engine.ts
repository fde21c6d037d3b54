import { openPack } from '@flotilla/pack';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Engine, type LoadedModel, Refusal } from '../src/index.ts';

/**
 * Behaves as the pack's annotations say: `load`, `golden`: a failure reason; `p50Us`; `slow-golden`: ms; `golden-after-load: N`: golden
 * vectors hold N times and then fail. A model that is rebuilt is its base, turned round. What is real elsewhere is made up here, so that tests take no seconds.
 */
export function fakeEngine(): Engine & { readonly open: () => number } {
  let open = 0;
  return {
    version: '1.30.0',
    board: 'raspberrypi-5',
    boardClass: 'x64',
    open: () => open,
    async load(folder) {
      const pack = await openPack(join(folder, 'pack'));
      await pack.close();
      const { annotations, latencyBudgetUs } = pack.config;
      if (annotations['load'] !== undefined) throw new Refusal(annotations['load'] as never, 'made up');
      open++;
      return model(pack.digest, annotations, latencyBudgetUs['*'], () => open--);
    },
    async rebuild({ basePath, outPath }) {
      await writeFile(outPath, (await readFile(basePath)).toReversed());
    },
  };
}

function model(
  digest: string,
  annotations: { readonly [key: string]: string },
  budgetUs: number | undefined,
  closed: () => void,
): LoadedModel {
  let checks = Number(annotations['golden-after-load'] ?? Number.POSITIVE_INFINITY);
  let isOpen = true;
  const p50Us = Number(annotations['p50Us'] ?? 1000);
  return {
    digest,
    task: annotations['task'] === 'text' ? 'text' : 'tensor',
    budgetUs,
    async golden() {
      for (let ms = Number(annotations['slow-golden'] ?? 0); ms > 0; ms -= 20) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        if (!isOpen) throw new Refusal('crashed', 'closed');
      }
      if (annotations['golden'] !== undefined) throw new Refusal(annotations['golden'] as never, 'made up');
      if (checks-- <= 0) throw new Refusal('golden-mismatch', 'made up');
    },
    async measure(ms) {
      const histogram = Uint8Array.of(1, 2, 3);
      return {
        p50Us,
        histogram,
        throughputPerS: 1e6 / p50Us,
        peakRssBytes: 1e8,
        pssBytes: 0,
        weightsBytes: 1e6,
        windowMs: ms,
      };
    },
    async generate({ prompt }) {
      if (prompt === 'crash') throw new Refusal('crashed', 'made up');
      return { text: prompt.toUpperCase(), tokens: 3, timeToFirstTokenUs: 1000, tokensPerSecond: 100 };
    },
    async close() {
      if (isOpen) closed();
      isOpen = false;
    },
  };
}
