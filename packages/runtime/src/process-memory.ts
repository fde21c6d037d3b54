import { readFile } from 'node:fs/promises';
import type { Memory } from './types.ts';

/** Memory of this process; PSS and what is its own alone on Linux only. */
export async function processMemory(): Promise<Omit<Memory, 'weightsBytes'>> {
  const [status, rollup] = await Promise.all([readOr('/proc/self/status'), readOr('/proc/self/smaps_rollup')]);
  return {
    peakRssBytes: kilobytes(status, /^VmHWM:\s+(\d+) kB$/m) ?? process.resourceUsage().maxRSS * 1024,
    pssBytes: kilobytes(rollup, /^Pss:\s+(\d+) kB$/m) ?? null,
    privateBytes: kilobytes(rollup, /^Private_Dirty:\s+(\d+) kB$/m) ?? null,
  };
}

function kilobytes(text: string, line: RegExp): number | undefined {
  const found = line.exec(text)?.[1];
  return found === undefined ? undefined : Number(found) * 1024;
}

async function readOr(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
