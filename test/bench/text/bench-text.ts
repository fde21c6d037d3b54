import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { print } from '../../tiers/run.ts';
import { describeMachine } from '../machine.ts';
import { measureText, type TextFigures } from './measure-text.ts';
import { textBuilds } from './text-builds.ts';

export interface TextBenchOptions {
  readonly json: boolean;
  readonly quick: boolean;
  /** Where models are kept from one run to the next; else in a temporary folder. */
  readonly folder?: string | undefined;
}

/** Text generation with the random-weight Llama, int4 beside fp32, one thread, everything in turns. */
export async function benchText({ json, quick, folder }: TextBenchOptions): Promise<void> {
  const dir = folder ?? (await mkdtemp(join(tmpdir(), 'flotilla-text-')));
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  try {
    const builds = await textBuilds(dir, say);
    const load = loadavg()[0] ?? 0;
    const figures = await measureText(builds, quick ? { rounds: 3, steps: 3 } : { rounds: 11, steps: 8 }, say);
    if (json) print(JSON.stringify({ machine: await describeMachine(), text: figures, load }));
    else printText(figures, load);
  } finally {
    if (folder === undefined) await rm(dir, { recursive: true, force: true });
  }
}

function printText(figures: readonly TextFigures[], load: number): void {
  const [base] = figures;
  const fused = figures.find(({ name }) => name === 'fp32 fused');
  if (!base || !fused) return;
  const times = (value: number) => `${value.toFixed(2)} ×`;
  print(`\ntext generation, 161 M parameters, random weights, 1 thread, load ${load.toFixed(1)} before`);
  const rate = (one: TextFigures, context: string) => one.tokensPerSecond[context] ?? Number.NaN;
  for (const one of figures) {
    const speeds = Object.keys(one.tokensPerSecond).map(
      (context) =>
        `${rate(one, context).toFixed(1)} tokens/s behind ${context} (${times(rate(one, context) / rate(base, context))})`,
    );
    const memory = one.privateBytes === null ? '–' : `${(one.privateBytes / 1e6).toFixed(0)} MB private`;
    const share =
      one.privateBytes === null ? '' : ` (${((100 * one.privateBytes) / (base.privateBytes ?? 1)).toFixed(0)} %)`;
    print(`  ${one.name.padEnd(14)}${speeds.join(', ')}`);
    print(
      `  ${''.padEnd(14)}prefill ${one.prefillMs.toFixed(0)} ms (${times(base.prefillMs / one.prefillMs)}, on the same graph ${times(fused.prefillMs / one.prefillMs)}), ${memory}${share}, outside of ONNX Runtime ${(100 * one.outsideShare).toFixed(1)} %`,
    );
    const shares = one.operators.slice(0, 5).map(({ op, share: part }) => `${op} ${(100 * part).toFixed(0)} %`);
    print(`  ${''.padEnd(14)}a step goes to ${shares.join(', ')}`);
  }
}
