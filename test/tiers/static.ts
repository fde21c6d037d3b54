import { join } from 'node:path';
import { type Count, print, root, run } from './run.ts';

const bin = (path: string) => join(root, 'node_modules', path);
const node = process.execPath;

const checks: readonly { readonly name: string; readonly command: readonly string[] }[] = [
  { name: 'format (biome)', command: [node, bin('@biomejs/biome/bin/biome'), 'format', '.'] },
  { name: 'lint (oxlint)', command: [node, bin('oxlint/bin/oxlint'), '--type-aware', '--deny-warnings'] },
  { name: 'types of the packages (tsc -b)', command: [node, bin('typescript/bin/tsc'), '-b'] },
  { name: 'types of the tests (tsc -p test)', command: [node, bin('typescript/bin/tsc'), '-p', 'test'] },
  { name: 'docs/errors.md is what the code says', command: [node, 'scripts/errors.mjs', '--check'] },
  { name: 'dead code (knip)', command: [node, bin('knip/bin/knip.js'), '--no-progress', '--no-config-hints'] },
];

/** Each check counts as one test. */
export async function runChecks(): Promise<Count> {
  const count: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const { name, command } of checks) {
    const { status, output } = await run(command, { timeoutMs: 300_000 });
    print(`${status === 0 ? '✓' : '✗'} ${name}`);
    if (status === 0) count.passed++;
    else {
      count.failed++;
      print(output.trim());
    }
  }
  return count;
}
