import { spawn } from 'node:child_process';
import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockDataDir } from '../src/lock.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'flotilla-lock-'));

test('a second one is refused while the first lives; it gets in afterwards; nothing stays', async () => {
  const dir = await folder();
  const release = await lockDataDir(dir);
  await expect(lockDataDir(dir)).rejects.toMatchObject({ code: 'controller/locked', where: dir });
  await release();
  await (await lockDataDir(dir))();
  expect(await readdir(dir)).toEqual([]);
});

test('the lock of a process that is gone is taken over', async () => {
  const dir = await folder();
  const child = spawn('sleep', ['0']);
  const { pid } = child;
  await new Promise((resolve) => child.once('exit', resolve));
  await writeFile(join(dir, 'lock'), JSON.stringify({ pid, started: '1', id: 'x' }));
  await (await lockDataDir(dir))();
});

test('so is one whose process id another program has now, and one torn by a power cut', async () => {
  const dir = await folder();
  await writeFile(join(dir, 'lock'), JSON.stringify({ pid: process.pid, started: '1', id: 'x' }));
  await (await lockDataDir(dir))();
  await writeFile(join(dir, 'lock'), '{"pi');
  await (await lockDataDir(dir))();
});

test('of ten that start at once over a stale lock one gets it', async () => {
  const dir = await folder();
  await writeFile(join(dir, 'lock'), 'stale');
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => lockDataDir(dir)));
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
});
