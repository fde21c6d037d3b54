import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { detectHost } from '@flotilla/boards';
import { packageFolder } from '../labels/package-folder.ts';

/** What figures were taken on: without it they say nothing. */
export interface Machine {
  readonly cpu: string;
  readonly boardClass: string;
  readonly features: readonly string[];
  readonly cores: number;
  readonly ramBytes: number;
  readonly system: string;
  readonly node: string;
  readonly onnxruntime: string;
}

export async function describeMachine(): Promise<Machine> {
  const host = await detectHost();
  const manifest = JSON.parse(readFileSync(join(packageFolder('onnxruntime-node'), 'package.json'), 'utf8')) as {
    readonly version: string;
  };
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    boardClass: host.boardClass,
    features: host.cpu.features,
    cores: availableParallelism(),
    ramBytes: totalmem(),
    system: `${process.platform} ${release()} ${process.arch}`,
    node: process.version,
    onnxruntime: manifest.version,
  };
}
