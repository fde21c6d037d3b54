import { mkdtemp, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { detectHost, listBoards, loadBoard, type Machine, parseBoard } from '@flotilla/boards';
import { expect, test } from 'vitest';

const GOOD = `
name: my-board
title: My board
arch: arm64
cpu: { model: Cortex-A53, cores: 4, features: [neon] }
ramBytes: 536870912
storage: eMMC
boot: u-boot
sources: [https://example.com/]
`;

test('the shipped boards have the classes that decide their kernels', async () => {
  const classes = (await listBoards()).map((board) => [board.name, board.boardClass]);
  expect(Object.fromEntries(classes)).toMatchObject({
    'raspberrypi-4b': 'arm64',
    'raspberrypi-5': 'arm64-dotprod',
    'raspberrypi-zero-2w': 'arm64',
  });
});

test('a board is loaded by name, by file, and the host by detection', async () => {
  const file = join(await mkdtemp(join(tmpdir(), 'boards-')), 'mine.yaml');
  await writeFile(file, GOOD);
  expect((await loadBoard(file)).name).toBe('my-board');
  expect((await loadBoard('raspberrypi-5')).cpu.cores).toBe(4);
  expect((await loadBoard('host')).arch).toBe(process.arch);
});

test.each(['nonsense', '__proto__', '..', ''])(
  'an unknown name %j is refused with the names there are',
  async (name) => {
    await expect(loadBoard(name)).rejects.toMatchObject({
      code: 'boards/unknown',
      hint: expect.stringContaining('raspberrypi-4b'),
    });
  },
);

test('a missing file, a folder and a device are refused without opening them', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'boards-'));
  await symlink('/dev/zero', join(folder, 'zero.yaml'));
  for (const path of [join(folder, 'none.yaml'), `${folder}/`, join(folder, 'zero.yaml')])
    await expect(loadBoard(path)).rejects.toMatchObject({ code: 'boards/unreadable' });
});

const bomb = `a: &a [x,x,x,x,x,x,x,x,x]
${['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i']
  .map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`)
  .join('\n')}`;

test.each([
  ['alias bomb', GOOD + bomb],
  ['merge key', `${GOOD}<<: { extra: 1 }`],
  ['!!js tag', GOOD.replace('My board', '!!js/function "function () {}"')],
  ['own tag', GOOD.replace('My board', '!evil x')],
  ['duplicate key', `${GOOD}name: twice`],
  ['1e999', GOOD.replace('536870912', '1e999')],
  ['.inf', GOOD.replace('536870912', '.inf')],
  ['unknown ISA', GOOD.replace('[neon]', '[neon, sve9]')],
  ['ISA of another CPU', GOOD.replace('[neon]', '[avx2]')],
  ['unknown key', `${GOOD}colour: red`],
  ['__proto__ key', `${GOOD}__proto__: { polluted: true }`],
  ['missing key', GOOD.replace('boot: u-boot', '')],
  ['two documents', `${GOOD}\n---\n${GOOD}`],
  ['not a mapping', '- 1'],
  ['empty', ''],
  ['text', 'not: [yaml'],
  ['a long file', GOOD + '#'.repeat(17_000)],
  ...[1_000, 4_000, 16_000].map((depth): [string, string] => [`nesting ${depth} deep`, '['.repeat(depth)]),
  ['nested lists on one line', '- '.repeat(4_000)],
  ['nested keys on one line', '? '.repeat(4_000)],
  ['nested mappings', '{a: '.repeat(4_000)],
  ['nesting by indentation', Array.from({ length: 170 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n')],
  ['escape sequence', GOOD.replace('My board', '"\\e[2J"')],
  ['negative cores', GOOD.replace('cores: 4', 'cores: -4')],
])('#55 %s is refused', (_, text) => {
  expect(() => parseBoard(text, 'board.yaml')).toThrow(expect.objectContaining({ code: 'boards/invalid' }));
  expect(Object.keys(Object.prototype)).toEqual([]);
});

const machine: Machine = {
  platform: 'linux',
  arch: 'arm64',
  cpuinfo: undefined,
  deviceTreeModel: undefined,
  cpuModel: 'x',
  cores: 4,
  ramBytes: 1e9,
};
const A76 = 'fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp';

test.each([
  ['Pi 4', { cpuinfo: 'processor : 0\nFeatures\t: fp asimd evtstrm crc32\n' }, 'arm64'],
  ['Pi 5', { cpuinfo: `Features\t: ${A76}\n`.repeat(4) }, 'arm64-dotprod'],
  ['a core without dot product', { cpuinfo: `Features\t: ${A76}\nFeatures\t: fp asimd\n` }, 'arm64'],
  ['VNNI', { arch: 'x64', cpuinfo: 'flags\t\t: avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni\n' }, 'x64-vnni'],
  ['AVX-VNNI without AVX-512', { arch: 'x64', cpuinfo: 'flags : avx2 avx_vnni\n' }, 'x64-vnni'],
  ['AVX2', { arch: 'x64', cpuinfo: 'flags : fpu avx avx2\n' }, 'x64'],
  ['Windows', { arch: 'x64', platform: 'win32' }, 'x64'],
  ['macOS', { platform: 'darwin' }, 'arm64-dotprod'],
])('%s is detected', async (_, facts, expected) => {
  expect((await detectHost({ ...machine, ...facts })).boardClass).toBe(expected);
});

test('a CPU without a binding is refused', async () => {
  await expect(detectHost({ ...machine, arch: 'riscv64' })).rejects.toMatchObject({ code: 'boards/unsupported-cpu' });
});
