import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { type Arch, type Board, boardClassOf, type IsaFeature } from './board.ts';
import { BoardError } from './errors.ts';

/** What detection reads of a machine; a test passes another machine's. */
export interface Machine {
  readonly platform: string;
  readonly arch: string;
  /** /proc/cpuinfo, undefined where there is none. */
  readonly cpuinfo: string | undefined;
  /** /proc/device-tree/model, e.g. `Raspberry Pi 4 Model B Rev 1.4`. */
  readonly deviceTreeModel: string | undefined;
  readonly cpuModel: string;
  readonly cores: number;
  readonly ramBytes: number;
}

/**
 * This machine as a board, named `host`.
 * Linux: from /proc/cpuinfo, of which a feature counts only if every core has it (big.LITTLE). macOS on Apple silicon:
 * dot product and fp16, which all of it has. Elsewhere nothing states the features, so the slower class is assumed:
 * its choices are correct on the faster CPUs too.
 * @throws {BoardError} `boards/unsupported-cpu`
 */
export async function detectHost(machine?: Machine): Promise<Board> {
  const host = machine ?? (await thisMachine());
  const { arch } = host;
  if (arch !== 'x64' && arch !== 'arm64')
    throw new BoardError('boards/unsupported-cpu', `${host.platform} on ${arch}: only x64 and arm64 can run models`);
  const features = featuresOf(host, arch);
  return {
    name: 'host',
    title: host.deviceTreeModel ?? `this machine (${host.platform})`,
    arch,
    boardClass: boardClassOf(arch, features),
    cpu: { model: host.cpuModel, cores: host.cores, features },
    ramBytes: host.ramBytes,
    storage: 'unknown',
    boot: 'unknown',
    sources: [host.cpuinfo === undefined ? `assumed for ${host.platform} on ${arch}` : '/proc/cpuinfo'],
  };
}

function featuresOf(host: Machine, arch: Arch): readonly IsaFeature[] {
  if (host.cpuinfo !== undefined) return arch === 'x64' ? x64Features(host.cpuinfo) : arm64Features(host.cpuinfo);
  if (arch === 'x64') return ['avx2'];
  return host.platform === 'darwin' ? ['neon', 'dotprod', 'fp16'] : ['neon'];
}

function x64Features(cpuinfo: string): readonly IsaFeature[] {
  const flags = commonFlags(cpuinfo, /^flags\s*:(.*)$/gm);
  const features: IsaFeature[] = [];
  if (flags.has('avx2')) features.push('avx2');
  if (['avx512f', 'avx512bw', 'avx512dq', 'avx512vl'].every((flag) => flags.has(flag))) features.push('avx512');
  if (flags.has('avx512_vnni') || flags.has('avx_vnni')) features.push('vnni');
  return features;
}

function arm64Features(cpuinfo: string): readonly IsaFeature[] {
  const flags = commonFlags(cpuinfo, /^Features\s*:(.*)$/gm);
  const features: IsaFeature[] = ['neon']; // part of ARMv8-A itself
  if (flags.has('asimddp')) features.push('dotprod');
  if (flags.has('i8mm')) features.push('i8mm');
  if (flags.has('asimdhp')) features.push('fp16');
  return features;
}

function commonFlags(cpuinfo: string, line: RegExp): ReadonlySet<string> {
  let common: Set<string> | undefined;
  for (const [, flags = ''] of cpuinfo.matchAll(line)) {
    const here = new Set(flags.trim().split(/\s+/));
    common = common ? new Set([...common].filter((flag) => here.has(flag))) : here;
  }
  return common ?? new Set();
}

async function thisMachine(): Promise<Machine> {
  const linux = process.platform === 'linux';
  return {
    platform: process.platform,
    arch: process.arch,
    cpuinfo: linux ? await readOr('/proc/cpuinfo') : undefined,
    deviceTreeModel: linux ? (await readOr('/proc/device-tree/model'))?.replace(/\0/g, '').trim() : undefined,
    cpuModel: cpus()[0]?.model.trim() || 'unknown',
    cores: availableParallelism(),
    ramBytes: totalmem(),
  };
}

async function readOr(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}
