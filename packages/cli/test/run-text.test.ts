import { execFile } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createPack } from '@flotilla/pack';
import { beforeAll, expect, test } from 'vitest';

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const llama = 'test/fixtures/models/wordnet-llama-4m';
let folder: string;
let pack: string;

function run(...args: readonly string[]): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [main, 'run', pack, ...args], (_error, stdout, stderr) =>
      resolve({ exitCode: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'run-text-'));
  pack = join(folder, 'model.pack');
  const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json'];
  const files = await Promise.all(
    names.map(async (path) => ({ path, role: 'tokenizer' as const, source: await readFile(join(llama, path)) })),
  );
  const model = { path: 'model.onnx', role: 'model' as const, source: await readFile(join(llama, 'model.onnx')) };
  await createPack(pack, {
    name: 'llama',
    task: 'text',
    weights: 'fp32',
    parameters: 4e6,
    sourceBytes: 16e6,
    golden: null,
    latencyBudgetUs: {},
    annotations: {},
    files: [model, ...files],
  });
  await writeFile(
    join(folder, 'schema.json'),
    '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}',
  );
  await writeFile(join(folder, 'impossible.json'), '{"enum":[]}');
  await writeFile(join(folder, 'broken.json'), '{');
});

test('text comes by a schema and by chance, the same from the same seed', async () => {
  const args = [
    '--prompt',
    'a person who',
    '--schema',
    join(folder, 'schema.json'),
    '--temperature',
    '2',
    '--seed',
    '3',
  ];
  const { exitCode, stdout } = await run(...args, '--json');
  expect(exitCode).toBe(0);
  const { text, tokens, timeToFirstTokenMs, stopReason, seed } = JSON.parse(stdout);
  expect(JSON.parse(text)).toEqual({ n: expect.any(Number) });
  expect({ stopReason, seed, first: timeToFirstTokenMs > 0, tokens: tokens > 2 }).toEqual({
    stopReason: 'end',
    seed: 3,
    first: true,
    tokens: true,
  });
  expect((await run(...args)).stdout).toBe(`${text}\n`);
});

test.each<[string, () => readonly string[], number, string]>([
  [
    'a schema that no text meets',
    () => ['--schema', join(folder, 'impossible.json')],
    3,
    'runtime/schema: no text meets',
  ],
  ['a schema that is no JSON', () => ['--schema', join(folder, 'broken.json')], 3, 'cli/file: --schema'],
  ['a filter without a temperature', () => ['--top-k', '5'], 2, 'runtime/options: topK'],
  ['a conversation without a template', () => ['--chat'], 3, 'runtime/chat: the model has no chat template'],
  ['an unknown flag', () => ['--top-q', '5'], 2, 'cli/usage: Unknown argument'],
])('%s is one clear line', async (_, args, code, line) => {
  const { exitCode, stderr } = await run('--prompt', 'a person who', ...args());
  expect({ exitCode, stderr: stderr.startsWith(`error ${line}`) }).toEqual({ exitCode: code, stderr: true });
  expect(stderr.trim().split('\n')).toHaveLength(1);
});

test('a prompt longer than the context is refused by its length', async () => {
  const { exitCode, stderr } = await run('--prompt', 'a b c '.repeat(300));
  expect(exitCode).toBe(3);
  expect(stderr).toMatch(/^error runtime\/context: \d+ prompt tokens, the context holds 512; shorten the prompt\n$/);
});
