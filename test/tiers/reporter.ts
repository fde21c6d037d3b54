import { writeFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

export interface Skipped {
  readonly name: string;
  readonly why: string;
}

/** What scripts/test adds up. */
export interface Summary {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly Skipped[];
}

/** Vitest's JSON reporter leaves out why a test was skipped: this one keeps it. */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const broken = modules.filter((module) => module.errors().length > 0);
    const summary: Summary = {
      passed: tests.filter((test) => test.result().state === 'passed').length,
      failed:
        tests.filter((test) => ['failed', 'pending'].includes(test.result().state)).length +
        broken.length +
        unhandled.length,
      skipped: tests.filter((test) => test.result().state === 'skipped').map(skippedTest),
    };
    const file = process.env['FLOTILLA_TEST_SUMMARY'];
    if (file !== undefined) writeFileSync(file, JSON.stringify(summary));
  }
}

function skippedTest(test: TestCase): Skipped {
  const result = test.result();
  return { name: test.fullName, why: (result.state === 'skipped' ? result.note : undefined) ?? 'not here' };
}
