import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Skipped, Summary } from './reporter.ts';
import { type Count, print, root, run } from './run.ts';
import type { Tier } from './tiers.ts';

/** Runs one tier's test files and counts their tests; skipped ones are listed with their reason. */
export async function runVitest(tier: Tier, filters: readonly string[], show = true): Promise<Count> {
  const paths =
    filters.length === 0 ? tier.paths : filters.filter((path) => tier.paths.some((own) => overlap(path, own)));
  if (paths.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  const folder = await mkdtemp(join(tmpdir(), 'flotilla-tier-'));
  try {
    const summaryFile = join(folder, 'summary.json');
    const vitest = [
      process.execPath,
      join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--config',
      'test/vitest.config.ts',
    ];
    const options = ['--passWithNoTests', '--reporter=dot', '--reporter=./test/tiers/reporter.ts'];
    const { status } = await run([...vitest, ...options, '--maxWorkers=2', ...paths], {
      show,
      env: { ...process.env, ...backend(), FLOTILLA_TEST_SUMMARY: summaryFile },
    });
    return await readSummary(summaryFile, status);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function readSummary(file: string, status: number | null): Promise<Count> {
  // No summary: Vitest itself died, which no count of tests would show.
  if (!existsSync(file)) {
    print(`vitest ended with ${status ?? 'a signal'} and left no summary`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const { passed, failed, skipped } = JSON.parse(await readFile(file, 'utf8')) as Summary;
  for (const line of reasons(skipped)) print(line);
  return { passed, failed: failed + (failed === 0 && status !== 0 ? 1 : 0), skipped: skipped.length };
}

/** `packages/onnx` is in the tier of `packages/`, and `packages` holds it. */
function overlap(a: string, b: string): boolean {
  return a.replace(/^\.\//, '').startsWith(b) || b.startsWith(a.replace(/^\.\//, ''));
}

/** Upstream's conformance models, where they lie beside the checkout. */
function backend(): { FLOTILLA_ONNX_BACKEND?: string } {
  const archive = join(root, '..', 'shared', 'onnx-backend.tgz');
  if (process.env['FLOTILLA_ONNX_BACKEND'] !== undefined || !existsSync(archive)) return {};
  return { FLOTILLA_ONNX_BACKEND: archive };
}

/** One line a reason, however many tests it skipped. */
function reasons(skipped: readonly Skipped[]): string[] {
  const byReason = new Map<string, string[]>();
  for (const { name, why } of skipped) byReason.set(why, [...(byReason.get(why) ?? []), name]);
  return [...byReason].map(([why, names]) => {
    const rest = names.length > 1 ? ` and ${names.length - 1} more` : '';
    return `skipped: ${why} (${names[0]}${rest})`;
  });
}
