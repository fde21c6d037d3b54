import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { root } from '../tiers/run.ts';

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

function flotilla(...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [join(root, 'packages/cli/dist/main.js'), ...args],
      { cwd: root },
      (_, stdout, stderr) => resolve({ exitCode: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

async function json(...args: readonly string[]): Promise<{ readonly [key: string]: unknown }> {
  const { exitCode, stdout, stderr } = await flotilla(...args, '--json');
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return JSON.parse(stdout) as { readonly [key: string]: unknown };
}

const base = 'test/fixtures/models/wordnet-llama-4m';
const adapter = 'test/fixtures/models/adapters/intents-lora';
let folder: string;
let judge: string;
let pack: string;
let report: { readonly [key: string]: unknown };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cli-'));
  judge = join(folder, 'judge.jsonl');
  const all = JSON.parse(await readFile(join(root, adapter, 'eval.json'), 'utf8')) as readonly object[];
  await writeFile(
    judge,
    all
      .slice(0, 12)
      .map((sample) => `${JSON.stringify(sample)}\n`)
      .join(''),
  );
  pack = join(folder, 'commands.pack');
  report = await json(
    'compile',
    base,
    '-o',
    pack,
    '--weights',
    'int4',
    '--lora',
    adapter,
    '--eval',
    judge,
    '--name',
    'commands',
  );
}, 240_000);

test('compile reports what the contract names', () => {
  expect(report).toMatchObject({
    model: { path: base, bytes: 16_253_117, parameters: 4_032_800 },
    pack: { path: pack, digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) },
    verdict: { metric: 'exact-match', samples: 12, fp32: 1, ok: true, floor: 0.98 },
    latency: { threads: 1 },
  });
  expect(report['ratio']).toBeLessThan(0.24);
  expect(report['float']).toContainEqual({ node: expect.any(String), op: 'MatMul', reason: expect.any(String) });
});

test('run answers a command, and eval scores the pack', { timeout: 240_000 }, async () => {
  const prompt = 'kindly switch off the space heater in the attic =>';
  expect(await json('run', pack, '--prompt', prompt)).toMatchObject({
    text: ' {"intent":"off","device":"heater","room":"attic"}',
    stopReason: 'end',
  });
  expect(await json('eval', pack, '--data', `${judge}:4`)).toEqual({
    ...{ metric: 'exact-match', samples: 4, value: 1 },
    interval: [expect.closeTo(0.51, 2), expect.closeTo(1)],
  });
});

test('bench shows no percentile that the number of runs cannot support', { timeout: 60_000 }, async () => {
  const { latency, memory, thermal } = (await json('bench', pack, '--seconds', '0.1')) as {
    latency: { count: number; p50Us: number; p99Us: number | null };
    memory: { peakRssBytes: number; weightsBytes: number };
    thermal: null;
  };
  expect(latency.p50Us).toBeGreaterThan(0);
  expect(latency.count).toBeLessThan(662);
  expect(latency.p99Us).toBeNull();
  expect(memory.peakRssBytes).toBeGreaterThan(memory.weightsBytes);
  expect(thermal).toBeNull();
});

test('a verdict under the floor is exit code 4, and --force overrides it', { timeout: 240_000 }, async () => {
  const harsh = [
    ...['compile', base, '-o', join(folder, 'harsh.pack'), '--weights', 'int4', '--json'],
    ...['--lora', adapter, '--eval', `${judge}:8`, '--metric', 'perplexity', '--floor', '1'],
  ];
  // Every prediction would have to be as sure as before.
  const { exitCode, stdout } = await flotilla(...harsh);
  expect(exitCode).toBe(4);
  expect(JSON.parse(stdout)).toMatchObject({ verdict: { ok: false } });
  expect((await flotilla(...harsh, '--force')).exitCode).toBe(0);
});

test('nothing to judge on: the pack is written, one line says why the exit code is 4', {
  timeout: 240_000,
}, async () => {
  const blind = ['compile', base, '-o', join(folder, 'blind.pack'), '--weights', 'int4', '--json'];
  const { exitCode, stdout, stderr } = await flotilla(...blind);
  expect({ exitCode, stderr }).toEqual({
    exitCode: 4,
    stderr: 'no: nothing was left to judge accuracy on; give --eval, or more --data\n',
  });
  expect(JSON.parse(stdout)).toMatchObject({ verdict: null, pack: { path: join(folder, 'blind.pack') } });
});

test.each([
  { what: 'a model that is none', args: ['inspect', 'package.json'], exit: 3, code: /^onnx\// },
  { what: 'a missing file', args: ['inspect', 'nowhere.onnx'], exit: 3, code: /^(cli|checkpoint|onnx)\// },
  {
    what: 'an unknown weight format',
    args: ['compile', base, '-o', 'x.pack', '--weights', 'int3'],
    exit: 2,
    code: /^cli\/usage$/,
  },
  { what: 'an unknown board', args: ['boards', 'show', 'rasberrypi-5'], exit: 3, code: /^boards\// },
  { what: 'a missing option', args: ['publish', 'x.pack'], exit: 2, code: /^cli\/usage$/ },
  {
    what: 'no controller there',
    args: ['device', 'ls', '--controller', 'http://127.0.0.1:9', '--token', 'x'],
    exit: 5,
    code: /^controller\/unreachable$/,
  },
])('$what: one line, its code, exit code $exit', { timeout: 60_000 }, async ({ args, exit, code }) => {
  const { exitCode, stdout, stderr } = await flotilla(...args, '--json');
  const { error } = JSON.parse(stdout) as { error: { code: string } };
  expect({ exitCode, code: error.code }).toEqual({ exitCode: exit, code: expect.stringMatching(code) });
  expect(stderr.trimEnd().split('\n')).toEqual([expect.stringContaining(`error ${error.code}: `)]);
});

test('a port that is taken: exit code 5, nothing left running', { timeout: 60_000 }, async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as { port: number };
  const { exitCode, stderr } = await flotilla(
    'controller',
    'start',
    '--data',
    join(folder, 'controller'),
    '--listen',
    '127.0.0.1:0',
    '--http',
    `127.0.0.1:${port}`,
  );
  taken.close();
  expect(stderr).toContain('error controller/port-in-use: ');
  expect(exitCode).toBe(5);
});

test('nothing half-written lies beside the packs', async () => {
  expect(
    (await readdir(folder)).filter(
      (name) => !['judge.jsonl', 'commands.pack', 'harsh.pack', 'blind.pack', 'controller'].includes(name),
    ),
  ).toEqual([]);
});
