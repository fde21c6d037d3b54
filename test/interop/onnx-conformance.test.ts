import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesInArchive } from '../../packages/onnx/test/onnx-backend.ts';

const debianData = '/usr/share/libonnx-testdata/data';
const archive = process.env['FLOTILLA_ONNX_BACKEND'];
const child = fileURLToPath(new URL('run-onnx-models.mjs', import.meta.url));

interface Verdict {
  readonly folder: string;
  /** 'equal', 'unchanged', 'WRONG', or why it says nothing. */
  readonly outcome: string;
  readonly why?: string;
}

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-conformance-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('after a recipe that changes nothing, Debian’s models give ONNX Runtime the same results', async (context) => {
  const folders = await foldersIn(debianData);
  if (folders.length === 0) return context.skip('libonnx-testdata is not installed');
  const verdicts = await judge(folders);
  expect(wrong(verdicts)).toEqual([]);
  expect(held(verdicts)).toBeGreaterThan(950);
}, 120_000);

test('so do those of onnx-backend.tgz', async (context) => {
  if (archive === undefined) return context.skip('FLOTILLA_ONNX_BACKEND names no archive');
  for await (const { path, bytes } of filesInArchive(archive)) {
    const target = join(dir, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, bytes);
  }
  const verdicts = await judge(await foldersIn(dir));
  expect(wrong(verdicts)).toEqual([]);
  expect(held(verdicts)).toBeGreaterThan(1540);
}, 180_000);

async function foldersIn(root: string): Promise<string[]> {
  const names = await readdir(root, { recursive: true }).catch(() => []);
  return names.filter((name) => name.endsWith('model.onnx')).map((name) => join(root, dirname(name)));
}

const wrong = (verdicts: readonly Verdict[]) => verdicts.filter(({ outcome }) => outcome === 'WRONG');

/** How many ran in ONNX Runtime as their reference says, and did so afterwards: 959 and 1,553 when this was written. */
function held(verdicts: readonly Verdict[]): number {
  return verdicts.filter(({ outcome }) => outcome === 'equal' || outcome === 'unchanged').length;
}

/** Some valid models abort the process that runs them: what is left then goes to a new one. */
async function judge(folders: readonly string[]): Promise<Verdict[]> {
  const halves = [folders.filter((_, i) => i % 2 === 0), folders.filter((_, i) => i % 2 === 1)];
  return (await Promise.all(halves.map(judgeInTurn))).flat();
}

async function judgeInTurn(folders: readonly string[]): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  const left = [...folders];
  while (left.length > 0) {
    const crashed = await runChild(left.slice(0, 1000), (verdict) => {
      verdicts.push(verdict);
      left.shift();
    });
    if (crashed !== undefined) verdicts.push({ folder: crashed, outcome: 'aborts ONNX Runtime' });
    if (crashed !== undefined) left.shift();
  }
  return verdicts;
}

/** Resolves to the folder that was being judged when the process died. */
async function runChild(folders: readonly string[], take: (verdict: Verdict) => void): Promise<string | undefined> {
  const running = spawn(process.execPath, [child], { stdio: ['pipe', 'pipe', 'ignore'] });
  running.stdin.on('error', () => {}).end(folders.join('\n'));
  const ended = new Promise((resolve) => running.once('exit', resolve));
  let current: string | undefined;
  for await (const line of createInterface({ input: running.stdout })) {
    const said = JSON.parse(line) as Verdict | { started: string };
    if ('started' in said) current = said.started;
    else {
      current = undefined;
      take(said);
    }
  }
  await ended;
  return current;
}
