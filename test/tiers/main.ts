import { installTools } from './apt.ts';
import { type Count, print } from './run.ts';
import { runChecks } from './static.ts';
import { type TierName, tiers } from './tiers.ts';
import { runVitest } from './vitest.ts';

const names = tiers.map(({ name }) => name);
const given = process.argv.slice(2);
const wanted = names.filter((name) => given.includes(name));
const filters = given.filter((word) => !names.includes(word as TierName));
const option = filters.find((word) => word.startsWith('-'));

if (option === undefined) await main();
else {
  print(`usage: scripts/test [${names.join(' | ')}] … [path …]; ${option} is neither`);
  process.exitCode = 2;
}

/** Runs the tiers asked for (all, without a name), each in its own Vitest so that a dying one takes no other with it. */
async function main(): Promise<void> {
  const started = performance.now();
  const total: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const tier of tiers) {
    if (wanted.length > 0 && !wanted.includes(tier.name)) continue;
    const since = performance.now();
    print(`\n── ${tier.name}: ${tier.is}`);
    await installTools(tier.tools);
    const counts = [await runVitest(tier, filters)];
    if (tier.name === 'static' && filters.length === 0) counts.push(await runChecks());
    for (const count of counts) for (const key of ['passed', 'failed', 'skipped'] as const) total[key] += count[key];
    print(`── ${tier.name}: ${Math.round((performance.now() - since) / 1000)} s`);
  }
  print(`\n${Math.round((performance.now() - started) / 1000)} s`);
  print(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  // A run that tested nothing has shown nothing.
  process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
}
