import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { print } from '../../tiers/run.ts';
import { describeMachine } from '../machine.ts';
import { measureText, type TextFigures } from './measure-text.ts';
import { openPeers, type Peer } from './peers.ts';
import { textBuilds, writeTextModel } from './text-builds.ts';

export interface TextBenchOptions {
  readonly json: boolean;
  readonly quick: boolean;
  /** Beside transformers.js and llama.cpp. */
  readonly peers: boolean;
  /** Where models are kept from one run to the next; else in a temporary folder. */
  readonly folder?: string | undefined;
}

/** Text generation with the random-weight Llama, int4 beside fp32, one thread, everything in turns. */
export async function benchText({ json, quick, peers, folder }: TextBenchOptions): Promise<void> {
  const dir = folder ?? (await mkdtemp(join(tmpdir(), 'flotilla-text-')));
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  try {
    const builds = await textBuilds(dir, say);
    const others = peers ? await openPeers(dir, await writeTextModel(dir), say) : [];
    const running = others.filter((it): it is Peer => 'ask' in it);
    const skipped = others.filter((it) => 'skipped' in it);
    const load = loadavg()[0] ?? 0;
    const rounds = quick ? { rounds: 3, steps: 4 } : { rounds: 9, steps: 8 };
    const figures = await measureText(builds, running, rounds, say).finally(() => {
      for (const peer of running) peer.close();
    });
    if (json) print(JSON.stringify({ machine: await describeMachine(), text: figures, skipped, load }));
    else printText(figures, skipped, load);
  } finally {
    if (folder === undefined) await rm(dir, { recursive: true, force: true });
  }
}

function printText(
  figures: readonly TextFigures[],
  skipped: readonly { readonly name: string; readonly skipped: string }[],
  load: number,
): void {
  const [base] = figures;
  const fused = figures.find(({ name }) => name === 'fp32 fused');
  if (!base || !fused) return;
  const times = (value: number) => `${value.toFixed(2)} ×`;
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  print(
    `\ntext generation, 161 M parameters, random weights, 1 thread, load ${load.toFixed(1)} before; × fp32 as exported`,
  );
  for (const one of figures) {
    const contexts = Object.keys(one.tokensPerSecond);
    const speeds = contexts.map((context) => {
      const [mine = Number.NaN, theirs = Number.NaN] = [one, base].map((it) => it.tokensPerSecond[context]);
      const [best = Number.NaN, bestTheirs = Number.NaN] = [one, base].map((it) => it.bestTokensPerSecond[context]);
      return `${mine.toFixed(1)} tokens/s behind ${context} (${times(mine / theirs)}; at best ${best.toFixed(1)}, ${times(best / bestTheirs)})`;
    });
    const memory = contexts.map((context) => {
      const [mine, theirs] = [one, base].map((it) => it.privateBytes[context] ?? Number.NaN);
      return `${((mine ?? 0) / 1e6).toFixed(0)} MB private behind ${context} (${percent((mine ?? 0) / (theirs ?? 1))})`;
    });
    const same = times(fused.prefillMs / one.prefillMs);
    print(`  ${one.name.padEnd(22)}${speeds.join(', ')}`);
    print(
      `  ${''.padEnd(22)}prefill ${one.prefillMs.toFixed(0)} ms (${times(base.prefillMs / one.prefillMs)}, fused ${same}; at best ${one.bestPrefillMs.toFixed(0)}, fused ${times(fused.bestPrefillMs / one.bestPrefillMs)}), ${memory.join(', ')}`,
    );
    if (one.outsideShare === null) continue;
    const shares = one.operators.slice(0, 4).map(({ op, share }) => `${op} ${percent(share)}`);
    print(
      `  ${''.padEnd(22)}outside of ONNX Runtime ${percent(one.outsideShare)}; a step goes to ${shares.join(', ')}`,
    );
  }
  for (const { name, skipped: why } of skipped) print(`  ${name.padEnd(22)}skipped: ${why}`);
}
