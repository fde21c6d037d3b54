import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createPack } from '@flotilla/pack';
import { loadTokenizer } from '@flotilla/runtime';
import { beforeAll, expect, test } from 'vitest';

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const llama = 'test/fixtures/models/wordnet-llama-4m';
let folder: string;
let pack: string;

const run = (...args: readonly string[]) => flotilla('run', pack, ...args);

function flotilla(...args: readonly string[]): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [main, ...args], (_error, stdout, stderr) =>
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
  ['a schema that is no JSON', () => ['--schema', join(folder, 'broken.json')], 3, 'cli/file: the --schema file'],
  ['a filter without a temperature', () => ['--top-k', '5'], 2, 'runtime/options: topK'],
  ['a conversation without a template', () => ['--chat'], 3, 'runtime/chat: the model has no chat template'],
  [
    'a conversation that is none',
    () => ['--messages', join(folder, 'schema.json')],
    3,
    'cli/file: the --messages file',
  ],
  ['an unknown flag', () => ['--top-q', '5'], 2, 'cli/usage: Unknown argument'],
])('%s is one clear line', async (_, args, code, line) => {
  const given = args();
  const { exitCode, stderr } = await run(
    ...(given.includes('--messages') ? [] : ['--prompt', 'a person who']),
    ...given,
  );
  expect({ exitCode, stderr: stderr.startsWith(`error ${line}`) }).toEqual({ exitCode: code, stderr: true });
  expect(stderr.trim().split('\n')).toHaveLength(1);
});

test('a conversation is written by the template of the folder, which needs no pack', async () => {
  for (const name of ['tokenizer.json', 'config.json', 'model.onnx'])
    await copyFile(join(llama, name), join(folder, name));
  const template = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}';
  await writeFile(join(folder, 'chat_template.jinja'), template);
  const turns = [
    { role: 'user', content: 'a dog</s>' },
    { role: 'assistant', content: 'barks' },
  ];
  await writeFile(join(folder, 'turns.json'), JSON.stringify(turns));
  const args = ['run', folder, '--messages', join(folder, 'turns.json'), '--max-tokens', '2', '--json'];
  const { stdout } = await flotilla(...args);
  const tokenizer = loadTokenizer(new Map([['tokenizer.json', await readFile(join(llama, 'tokenizer.json'))]]));
  const written = ['user: a dog<', '/s>\nassistant: barks\n'].flatMap((piece) => tokenizer.encode(piece));
  expect(JSON.parse(stdout)).toMatchObject({ promptTokens: written.length, tokens: 2 });
});

test('a prompt longer than the context is refused by its length', async () => {
  const { exitCode, stderr } = await run('--prompt', 'a b c '.repeat(300));
  expect(exitCode).toBe(3);
  expect(stderr).toMatch(/^error runtime\/context: \d+ prompt tokens, the context holds 512; shorten the prompt\n$/);
});
