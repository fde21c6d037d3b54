import { copyFile, mkdtemp, rm, stat } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { applyRecipe, parseRecipe } from '@flotilla/compiler';
import { decoderFeeds } from '@flotilla/runtime';
import { BIG_LLAMA, buildLlama } from '../../models/random-llama.ts';
import { print, root, run } from '../../tiers/run.ts';
import { someTokens } from '../text/text-builds.ts';
import { describeMachine } from '../machine.ts';
import { writeLargeModel } from './large-model.ts';

export interface CompileBenchOptions {
  readonly json: boolean;
  readonly gigabytes: number;
  /** Whose disk is used; else the system's temporary folder. What is written there is removed. */
  readonly folder?: string | undefined;
  readonly say: (line: string) => void;
}

/** One compilation, and the copies that it is held against, made right before and right after it. */
interface CompileFigures {
  readonly threads: number;
  readonly seconds: number;
  readonly peakRssBytes: number;
  readonly sourceBytes: number;
  readonly resultBytes: number;
  /** `cp` of the source, and of the result. */
  readonly cpSeconds: readonly [source: number, result: number];
  /** The compilation's time, in copies of both. */
  readonly copies: number;
}

interface MethodFigures {
  readonly method: string;
  readonly megabytesPerSecond: number;
}

/** What may be used and taken: 600 MB, and 4 times what copying takes. */
const LIMIT = { rssBytes: 600e6, copies: 4 };

/** int4 by rounding to nearest of a large random Llama, by 1 and 2 threads; then each method on a small one, one thread. */
export async function benchCompile({ json, gigabytes, folder, say }: CompileBenchOptions): Promise<void> {
  const dir = await mkdtemp(join(folder ?? tmpdir(), 'flotilla-compile-bench-'));
  try {
    say(`writing ${gigabytes} GB …`);
    const [model, data] = await writeLargeModel(join(dir, 'source'), gigabytes);
    const load = loadavg()[0] ?? 0;
    const figures: CompileFigures[] = [];
    for (const threads of [2, 1]) {
      say(`int4, ${threads} threads …`);
      figures.push(await measureCompile(dir, model, data, threads));
    }
    const methods: MethodFigures[] = [];
    for (const [method, recipe] of METHODS) {
      say(`${method} …`);
      methods.push({ method, megabytesPerSecond: await measureMethod(recipe) });
    }
    if (json) print(JSON.stringify({ machine: await describeMachine(), compile: figures, methods, load }));
    else printFigures(figures, methods, load);
    const [two] = figures;
    process.exitCode = two && (two.peakRssBytes > LIMIT.rssBytes || two.copies > LIMIT.copies) ? 4 : 0;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function measureCompile(dir: string, model: string, data: string, threads: number): Promise<CompileFigures> {
  const out = join(dir, `int4-${threads}.pack`);
  const before = await copySeconds(data, join(dir, 'copy'));
  const started = performance.now();
  const command = [process.execPath, join(root, 'packages/cli/dist/main.js'), 'compile', model, '-o', out];
  const asked = ['--weights', 'int4', '--method', 'rtn', '--threads', String(threads), '--force', '--json', '--quiet'];
  const { status, output } = await run([...command, ...asked]);
  const seconds = (performance.now() - started) / 1000;
  if (status !== 0) throw new Error(`compile ended with ${status}: ${output.slice(-500)}`);
  const { peakRssBytes } = JSON.parse(output.slice(output.indexOf('{'))) as { peakRssBytes: number };
  const after = await copySeconds(out, join(dir, 'copy'));
  const [source, result] = [await stat(data), await stat(out)];
  await rm(out);
  return {
    ...{ threads, seconds, peakRssBytes, sourceBytes: source.size, resultBytes: result.size },
    cpSeconds: [before, after],
    copies: seconds / (before + after),
  };
}

/** What the system's own copy takes; nothing is flushed to the disk. */
async function copySeconds(from: string, to: string): Promise<number> {
  const started = performance.now();
  const { status } = await run(['cp', '--reflink=never', from, to]);
  if (status !== 0) await copyFile(from, to);
  const seconds = (performance.now() - started) / 1000;
  await rm(to);
  return seconds;
}

const METHODS = [
  ['int4 rtn', '{ pass: convert-int4, method: rtn }'],
  ['int4 rtn, unclipped', '{ pass: convert-int4, method: rtn, clip: none }'],
  ['int4 hqq', '{ pass: convert-int4, method: hqq }'],
  ['int4 awq', '{ pass: convert-int4, method: awq, samples: 4 }'],
  ['int4 gptq', '{ pass: convert-int4, method: gptq, samples: 4 }'],
  ['int8', '{ pass: convert-int8 }'],
  ['nf4', '{ pass: convert-codebook, format: nf4 }'],
] as const;

/** fp32 bytes a second through one pass, its calibration on 4 samples of 64 tokens included; one thread, in memory. */
async function measureMethod(pass: string): Promise<number> {
  const model = buildLlama({ ...BIG_LLAMA, layers: 1 });
  const inputs = model.graph.inputs.map(({ name, type }) => ({
    name,
    dtype: type?.dtype ?? '',
    dims: (type?.dims ?? []).map((dim) => dim ?? ''),
  }));
  const calibrationData = {
    async *samples() {
      for (let i = 0; i < 4; i++) yield { inputs: decoderFeeds(inputs, someTokens(64, i)) };
    },
  };
  const bytes = [...model.graph.initializers.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const started = performance.now();
  await applyRecipe(model, parseRecipe(`name: bench\npasses: [${pass}]`), { calibrationData });
  return bytes / 1e3 / (performance.now() - started);
}

function printFigures(figures: readonly CompileFigures[], methods: readonly MethodFigures[], load: number): void {
  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
  print(`\ncompiling to int4 (round to nearest, blocks of 32), random Llama, load ${load.toFixed(1)} before`);
  for (const it of figures) {
    const speed = it.sourceBytes / 1e6 / it.seconds;
    const [source, result] = it.cpSeconds.map((seconds) => seconds.toFixed(1));
    print(
      `  ${it.threads} threads   ${mb(it.sourceBytes)} → ${mb(it.resultBytes)} in ${it.seconds.toFixed(1)} s, ${speed.toFixed(0)} MB/s`,
    );
    print(
      `              cp ${source} s, and of the result ${result} s: ${it.copies.toFixed(1)} × both (${LIMIT.copies} wanted)`,
    );
    print(`              peak RSS ${mb(it.peakRssBytes)} (${mb(LIMIT.rssBytes)} wanted)`);
  }
  const [two, one] = figures;
  if (two && one) print(`  2 threads are ${(one.seconds / two.seconds).toFixed(2)} times as fast as 1`);
  print('\nMB of fp32 weights a second by method, 1 thread, 15 M weights');
  for (const { method, megabytesPerSecond } of methods) print(`  ${method.padEnd(22)}${megabytesPerSecond.toFixed(1)}`);
}
