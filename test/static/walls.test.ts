import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { root, run } from '../tiers/run.ts';
import { importsOf, packageOf, sourcesOf } from './imports.ts';

interface Manifest {
  readonly name: string;
  readonly dependencies?: { readonly [name: string]: string };
  readonly exports: { readonly [path: string]: unknown };
}

const rooms = readdirSync(join(root, 'packages'));
const manifest = (room: string) =>
  JSON.parse(readFileSync(join(root, 'packages', room, 'package.json'), 'utf8')) as Manifest;
const references = (path: string) =>
  (JSON.parse(readFileSync(join(root, path), 'utf8')) as { references: readonly { path: string }[] }).references;

/** The rows of `| package | is | may import |` in ARCHITECTURE.md. */
function readMap(): ReadonlyMap<string, readonly string[]> {
  const lines = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8').split('\n');
  const start = lines.findIndex((line) => line.startsWith('| package | is | may import |'));
  expect(start, 'ARCHITECTURE.md has the table of rooms').toBeGreaterThan(-1);
  const length = lines.slice(start).findIndex((line) => !line.startsWith('|'));
  const rows = lines.slice(start + 2, start + length).map((line) => line.split('|').map((cell) => cell.trim()));
  return new Map(rows.map(([, name = '', , imports = '']) => [name.replaceAll('`', ''), parseImports(name, imports)]));
}

function parseImports(name: string, cell: string): readonly string[] {
  if (cell === '–') return [];
  if (cell === 'all') return rooms.filter((room) => `\`${room}\`` !== name);
  return cell.split(',').map((word) => word.trim());
}

test('the map names every package, and no other', () => {
  expect([...readMap().keys()].toSorted()).toEqual(rooms.toSorted());
});

describe.each(rooms)('%s', (room) => {
  const declared = Object.keys(manifest(room).dependencies ?? {}).filter((name) => name.startsWith('@flotilla/'));

  test('declares what the map says it may import', () => {
    expect(declared.map((name) => name.slice('@flotilla/'.length)).toSorted()).toEqual(readMap().get(room)?.toSorted());
  });

  test('has a project reference for each of them, and one entry', () => {
    const own = references(`packages/${room}/tsconfig.json`).map(({ path }) => path.replace('../', '@flotilla/'));
    expect(own.toSorted()).toEqual(declared.toSorted());
    expect(Object.keys(manifest(room).exports)).toEqual(['.']);
  });

  test('is in the solution and in the tests’ project', () => {
    expect(references('tsconfig.json').map(({ path }) => path)).toContain(`packages/${room}`);
    expect(references('test/tsconfig.json').map(({ path }) => path)).toContain(`../packages/${room}`);
  });
});

test('nothing below it imports cli; agent and runtime never import compiler or controller', () => {
  const map = readMap();
  const reach = (room: string): Set<string> => new Set((map.get(room) ?? []).flatMap((next) => [next, ...reach(next)]));
  for (const room of rooms) if (room !== 'cli') expect([...reach(room)]).not.toContain('cli');
  for (const room of ['agent', 'runtime']) {
    expect([...reach(room)]).not.toContain('compiler');
    expect([...reach(room)]).not.toContain('controller');
  }
});

// pnpm links every room and some tools at the root, for the tests, and tsc finds them there: so the sources are read.
describe.each(rooms)('%s: its sources', (room) => {
  const folder = join(root, 'packages', room, 'src');

  test.each(sourcesOf(folder))('$path imports only what the manifest declares', ({ source }) => {
    expect(undeclared(source, room)).toEqual([]);
  });
});

function undeclared(source: string, room: string): readonly (string | undefined)[] {
  const declared = Object.keys(manifest(room).dependencies ?? {});
  return importsOf(source)
    .map(packageOf)
    .filter((name) => name !== undefined && !declared.includes(name));
}

describe('a planted import is refused', () => {
  test.each([
    `import { compile } from '@flotilla/compiler';`,
    `import type { Report } from '@flotilla/compiler/src/report.ts';`,
    `export {\n  compile,\n} from "@flotilla/compiler";`,
    `const { compile } = await import('@flotilla/compiler');`,
    `import '@flotilla/compiler';`,
  ])('by reading agent’s sources: %s', (source) => {
    expect(undeclared(`import { join } from 'node:path';\n${source}\n`, 'agent')).toEqual(['@flotilla/compiler']);
  });

  const planted: string[] = [];
  afterAll(async () => {
    for (const path of planted) await rm(path, { recursive: true, force: true });
  });

  /** A scratch package beside the real ones' rules: its folder lies in .cache, its project extends the root's. */
  async function plantedProject(source: string, linked: readonly string[]): Promise<string> {
    await mkdir(join(root, '.cache'), { recursive: true });
    const folder = await mkdtemp(join(root, '.cache', 'planted-'));
    planted.push(folder);
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'planted', type: 'module' }));
    await writeFile(join(folder, 'src', 'index.ts'), source);
    const references = linked.map((room) => ({ path: `../../packages/${room}` }));
    await writeFile(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ extends: '../../tsconfig.json', files: ['src/index.ts'], references }),
    );
    return folder;
  }
  const tsc = (folder: string) =>
    run([process.execPath, join(root, 'node_modules/typescript/bin/tsc'), '--noEmit', '-p', folder]);

  test('by tsc: a path into another room', async () => {
    const folder = await plantedProject(`export { OnnxError } from '../../../packages/onnx/src/errors.ts';\n`, []);
    const { status, output } = await tsc(folder);
    expect(output).toMatch(/TS6059|TS6307/);
    expect(status).not.toBe(0);
  });

  test('by tsc: a file behind another room’s one entry', async () => {
    const folder = await plantedProject(`export { OnnxError } from '@flotilla/onnx/src/errors.ts';\n`, ['onnx']);
    const { status, output } = await tsc(folder);
    expect(output).toContain('TS2307');
    expect(status).not.toBe(0);
  });

  test('by nothing: a room that the project references', async () => {
    const folder = await plantedProject(`export { OnnxError } from '@flotilla/onnx';\n`, ['onnx']);
    expect(await tsc(folder)).toEqual({ status: 0, output: '' });
  });

  test.each([
    [
      'a built-in',
      `import { readFileSync } from 'node:fs';\nexport const read = readFileSync;\n`,
      'no-restricted-imports',
    ],
    ['the clock', `export const now = () => Date.now();\n`, 'no-restricted-globals'],
    ['a timer', `export const wait = (then: () => void) => setTimeout(then, 1);\n`, 'no-restricted-globals'],
    ['chance', `export const dice = () => Math.random();\n`, 'no-restricted-properties'],
  ])('by oxlint: %s in quant', async (_what, source, rule) => {
    const file = join(root, 'packages/quant/src', `planted-${process.pid}.ts`);
    planted.push(file);
    await writeFile(file, source);
    const { status, output } = await run([process.execPath, join(root, 'node_modules/oxlint/bin/oxlint'), file]);
    await rm(file);
    expect(output).toContain(rule);
    expect(status).not.toBe(0);
  });
});
