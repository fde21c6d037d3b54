import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from '../../tiers/run.ts';
import type { ZooSizes } from './task.ts';

// A kept answer is shown only while what it came from is the same: each is kept under a hash of that.

/** What decides what a model becomes by one of our recipes. */
const COMPILER = ['onnx', 'quant', 'boards', 'checkpoint', 'lowering', 'compiler'].map(
  (name) => `packages/${name}/dist`,
);

/** What decides the samples, and how answers to them are counted. */
const DATA = ['test/labels', ...['tasks', 'speech.ts', 'score.ts', 'task.ts'].map((name) => `test/bench/zoo/${name}`)];

/** What counts answers where a metric of the compiler does, by a task's word for it. */
const METRICS: ReadonlyMap<string, readonly string[]> = new Map([
  ["F1 against fp32's boxes", ['box-f1', 'boxes'].map((name) => `packages/compiler/src/metrics/${name}.ts`)],
]);

/** Of a score. @param made key of the file @param metric of its task */
export async function scoreKey(made: string, metric: string): Promise<string> {
  const code = METRICS.get(metric);
  return code ? keyOf([made, await codeOf(code)]) : made;
}

/** Of the samples. */
export async function dataKey(sizes: ZooSizes): Promise<string> {
  // How long speed is measured changes no sample.
  const { speedSeconds: _, ...samples } = sizes;
  return keyOf([JSON.stringify(samples), await codeOf(DATA)]);
}

/** Of our rows: the samples and the compiler. */
export async function compilerKey(sizes: ZooSizes): Promise<string> {
  return keyOf([await dataKey(sizes), await codeOf([...COMPILER, 'test/bench/zoo/recipes.ts'])]);
}

export function keyOf(parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 16);
}

/** @param paths files or folders in the repository */
export async function codeOf(paths: readonly string[]): Promise<string> {
  const texts: string[] = [];
  for (const path of paths)
    for (const file of await filesIn(path)) texts.push(file, await readFile(join(root, file), 'utf8'));
  return keyOf(texts);
}

async function filesIn(path: string): Promise<readonly string[]> {
  if (/\.(?:js|ts|py)$/.test(path)) return [path];
  const names = await readdir(join(root, path), { recursive: true });
  const isCode = (name: string): boolean => /\.(?:js|ts)$/.test(name) && !name.endsWith('.d.ts');
  return names
    .filter(isCode)
    .toSorted()
    .map((name) => `${path}/${name}`);
}
