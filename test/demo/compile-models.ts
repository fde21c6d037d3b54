import { writeKeyPair } from '@flotilla/pack';
import type { CompileReport, LatencyReport } from '@flotilla/compiler';
import { join } from 'node:path';
import { type Build, builds, writeData } from '../models/builds.ts';
import { openSpeedPair } from '../models/speed.ts';
import type { Processes } from './processes.ts';
import type { ModelResult } from './result.ts';
import type { Screen } from './screen.ts';

const SIZES = { calibrate: 64, judge: 144, commands: 60 };
/** No device may take longer for a line or a command; far above what a good release takes, far below the slow one. */
const BUDGET_US = 150_000;
/** Of five rounds, for each of a pair. */
const ROUND_SECONDS = 0.1;

export interface DemoPack {
  readonly name: string;
  readonly path: string;
}

export interface Compiled {
  readonly models: readonly ModelResult[];
  /** What is rolled out: labels int8, commands int4. */
  readonly packs: readonly [labels: DemoPack, commands: DemoPack];
  readonly keys: Keys;
}

export interface Keys {
  readonly privateFile: string;
  readonly publicFile: string;
}

/**
 * Compiles the builds side by side and loads each beside its fp32 model, then measures one after another; signs the packs.
 * @throws where a verdict is no
 */
export async function compileModels(work: string, keys: Keys, processes: Processes, screen: Screen): Promise<Compiled> {
  const data = join(work, 'data');
  await writeData(data, SIZES);
  const compiled = await Promise.all(
    builds.map(async (build) => {
      const report = await compileApart(work, build, data, keys, processes);
      return { build, report, pair: await openSpeedPair(build.model, packPath(work, build)) };
    }),
  );
  screen.table([HEADER]);
  const models: ModelResult[] = [];
  for (const { build, report, pair } of compiled) {
    const result = resultOf(build, report, await pair.compare(ROUND_SECONDS));
    await pair.close();
    models.push(result);
    screen.table([rowOf(result)]);
    if (report.verdict?.ok !== true) throw new Error(`${build.model} ${build.weights}: the verdict is no`);
  }
  const pack = (model: Build['model'], weights: Build['weights']) => ({
    name: model,
    path: packPath(work, { model, weights }),
  });
  return { models, packs: [pack('labels', 'int8'), pack('commands', 'int4')], keys };
}

/** In a process of its own: most of a compilation is JavaScript, of which a process has one thread. */
async function compileApart(
  work: string,
  build: Build,
  data: string,
  keys: Keys,
  processes: Processes,
): Promise<CompileReport> {
  const args = [builds.indexOf(build), data, packPath(work, build), keys.privateFile, BUDGET_US].map(String);
  return JSON.parse(await processes.script('test/demo/compile-one.ts', args)) as CompileReport;
}

/** The key pair of whoever builds the releases. */
export function makeKeys(work: string): Promise<Keys> {
  return writeKeyPair(join(work, 'keys'));
}

function packPath(work: string, { model, weights }: Pick<Build, 'model' | 'weights'>): string {
  return join(work, `${model}-${weights}.pack`);
}

function resultOf({ model: name, weights }: Build, report: CompileReport, latency: LatencyReport): ModelResult {
  const { model, pack, ratio, verdict } = report;
  if (verdict === null) throw new Error(`${name} ${weights}: not judged`);
  const { metric, samples, fp32, quantized, kept } = verdict;
  return {
    name,
    weights,
    ...(name === 'commands' && { adapter: 'intents-lora' }),
    fp32Bytes: model.bytes,
    modelBytes: pack.modelBytes,
    ratio,
    metric,
    samples,
    fp32,
    quantized,
    kept,
    speedup: latency.speedup,
    fp32P50Us: latency.fp32.p50Us,
    p50Us: latency.quantized.p50Us,
  };
}

const HEADER = [
  'model        ',
  '  fp32 MB',
  '     MB',
  '  ratio',
  'metric     ',
  '  fp32',
  ' score',
  '   kept',
  'fp32 ms',
  '     ms',
  'speed',
];

function rowOf(m: ModelResult): string[] {
  const cells = [
    `${m.name} ${m.weights}`,
    (m.fp32Bytes / 1e6).toFixed(2),
    (m.modelBytes / 1e6).toFixed(2),
    percent(m.ratio),
    m.metric,
    percent(m.fp32),
    percent(m.quantized),
    percent(m.kept),
    (m.fp32P50Us / 1000).toFixed(2),
    (m.p50Us / 1000).toFixed(2),
    `${m.speedup.toFixed(2)}×`,
  ];
  // Each row is printed as it comes, so the header fixes the widths.
  return cells.map((cell, i) =>
    i === 0 ? cell.padEnd(HEADER[i]?.length ?? 0) : cell.padStart(HEADER[i]?.length ?? 0),
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
