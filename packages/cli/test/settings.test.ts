import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadSettings } from '../src/settings.ts';

async function folderWith(yaml: string): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'settings-'));
  await writeFile(join(dir, 'flotilla.yaml'), yaml);
  await mkdir(join(dir, 'a', 'b'), { recursive: true });
  return dir;
}

test('a variable wins over the nearest flotilla.yaml, and both say where they come from', async () => {
  const dir = await folderWith('board: raspberrypi-5\nthreads: 2\n');
  const settings = loadSettings({ FLOTILLA_BOARD: 'host' }, join(dir, 'a', 'b'));
  expect(settings.get('board')).toEqual({ name: 'board', value: 'host', from: 'FLOTILLA_BOARD' });
  expect(settings.get('threads')).toEqual({ name: 'threads', value: '2', from: join(dir, 'flotilla.yaml') });
});

test('a flag wins over both', async () => {
  const dir = await folderWith('threads: 2\n');
  const settings = loadSettings({ FLOTILLA_THREADS: '3' }, dir, { threads: '4' });
  expect(settings.get('threads')).toEqual({ name: 'threads', value: '4', from: '--threads' });
});

test.each(['two', '0', '-1', '1.5'])('%s threads are refused, with the place', async (threads) => {
  const dir = await folderWith(`threads: ${threads}\n`);
  const from = join(dir, 'flotilla.yaml');
  expect(() => loadSettings({}, dir)).toThrow(expect.objectContaining({ code: 'cli/config', where: from }));
});

test('an unknown key is refused with the near one', async () => {
  const dir = await folderWith('bord: host\n');
  expect(() => loadSettings({}, dir)).toThrow(
    expect.objectContaining({ code: 'cli/config', hint: 'did you mean board?' }),
  );
});

test('a file that is no mapping is refused', async () => {
  const dir = await folderWith('- board\n');
  expect(() => loadSettings({}, dir)).toThrow(expect.objectContaining({ code: 'cli/config' }));
});

test('#55 a file nested 100,000 deep is refused and does not end the process', async () => {
  const dir = await folderWith(`board: ${'['.repeat(100_000)}`);
  expect(() => loadSettings({}, dir)).toThrow(expect.objectContaining({ code: 'cli/config' }));
});
