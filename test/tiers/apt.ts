import { existsSync } from 'node:fs';
import { print, run } from './run.ts';
import type { Tool } from './tiers.ts';

/**
 * Brings what a tier needs, where this is root on Debian. What cannot be had is said in one line;
 * the tests that need it find that out for themselves and are counted as skipped.
 */
export async function installTools(tools: readonly Tool[]): Promise<void> {
  const missing = tools.filter(({ file }) => !existsSync(file));
  if (missing.length === 0) return;
  const packages = missing.flatMap((tool) => tool.packages);
  if (process.getuid?.() !== 0 || !existsSync('/etc/debian_version') || !existsSync('/usr/bin/apt-get')) {
    print(`not here, and only root on Debian may fetch them: ${packages.join(' ')}`);
    return;
  }
  print(`apt-get install ${packages.join(' ')}`);
  // Runlevel 1: brokers and databases that come this way are for tests to start, not for the system.
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const install = [
    'apt-get',
    'install',
    '-y',
    '-qq',
    '--no-install-recommends',
    '-o',
    'Acquire::Retries=1',
    ...packages,
  ];
  if ((await run(install, { env: environment, timeoutMs: 120_000 })).status === 0) return;
  // Lists may be old or absent.
  await run(['apt-get', 'update', '-qq'], { env: environment, timeoutMs: 60_000 });
  const { status, output } = await run(install, { env: environment, timeoutMs: 120_000 });
  if (status !== 0) print(`apt-get could not: ${output.trim().split('\n').at(-1) ?? 'timed out'}`);
}
