import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CompileOptions, type CompileReport, compile } from '@flotilla/compiler';
import { labelsKeysPath, labelsModelPath } from '../labels/ctc.ts';
import { writeLabelSet } from '../labels/labels.ts';
import { root } from '../tiers/run.ts';

/** The two models that the project is measured on, in the formats that devices get. */
export interface Build {
  readonly model: 'labels' | 'commands';
  readonly weights: 'int8' | 'int4';
  /** What it must reach on evaluation data, beside fp32 in the same run. */
  readonly floors: { readonly ratio: number; readonly kept: number; readonly speedup?: number };
}

export const builds: readonly Build[] = [
  { model: 'labels', weights: 'int8', floors: { ratio: 0.31, kept: 0.97, speedup: 1.8 } },
  { model: 'labels', weights: 'int4', floors: { ratio: 0.25, kept: 0.97 } },
  { model: 'commands', weights: 'int4', floors: { ratio: 0.24, kept: 0.98 } },
];

const fixtures = join(root, 'test', 'fixtures', 'models');
/** The fp32 model; for commands without its adapter, which changes its weights and not its speed. */
export const fp32Path = (model: Build['model']): string =>
  model === 'labels' ? labelsModelPath : join(commandsFolder, 'model.onnx');

const commandsFolder = join(fixtures, 'wordnet-llama-4m');
const adapterFolder = join(fixtures, 'adapters', 'intents-lora');

export interface DataSizes {
  readonly calibrate: number;
  readonly judge: number;
  readonly commands: number;
}

/** Writes calibration lines, evaluation lines and commands into `dir`; the same sizes give the same files. */
export async function writeData(dir: string, sizes: DataSizes): Promise<void> {
  await mkdir(dir, { recursive: true });
  await writeLabelSet(join(dir, 'calibrate'), { split: 'calibrate', count: sizes.calibrate });
  await writeLabelSet(join(dir, 'judge'), { split: 'judge', count: sizes.judge });
  await writeFile(
    join(dir, 'commands.jsonl'),
    (await commands(sizes.commands)).map((it) => `${JSON.stringify(it)}\n`).join(''),
  );
}

export interface Command {
  readonly prompt: string;
  readonly completion: string;
}

/** The first of the 300 that took no part in training. */
export async function commands(count: number): Promise<readonly Command[]> {
  const all = JSON.parse(await readFile(join(adapterFolder, 'eval.json'), 'utf8')) as readonly Command[];
  return all.slice(0, count);
}

/** Compiles into `out`, judged on the data that `writeData` put into `dataDir` unless `judged` is false. */
export async function compileBuild(
  { model, weights }: Build,
  dataDir: string,
  out: string,
  options: CompileOptions & { readonly judged?: boolean } = {},
): Promise<CompileReport> {
  const { judged = true, ...given } = options;
  const rest = judged ? given : { latencySeconds: 0, ...given };
  if (model === 'commands') {
    const evaluation = judged ? { eval: join(dataDir, 'commands.jsonl') } : {};
    return compile(commandsFolder, out, {
      name: model,
      weights,
      lora: [{ dir: adapterFolder }],
      ...evaluation,
      ...rest,
    });
  }
  const data = join(dataDir, 'calibrate');
  const evaluation = judged ? { eval: join(dataDir, 'judge') } : {};
  return compile(labelsModelPath, out, { name: model, weights, keys: labelsKeysPath, data, ...evaluation, ...rest });
}
