import { readPrivateKey } from '@flotilla/pack';
import { builds, compileBuild } from '../models/builds.ts';

// One build in a process of its own: argv is its index, data, output, key file and latency budget. Prints the report.

const [index, data = '', out = '', keyFile = '', budgetUs] = process.argv.slice(2);
const build = builds[Number(index)];
if (build === undefined) throw new Error(`no build ${index}`);
const report = await compileBuild(build, data, out, {
  key: await readPrivateKey(keyFile),
  floor: build.floors.kept,
  latencyBudgetUs: { '*': Number(budgetUs) },
  latencySeconds: 0, // measured later, when nothing else runs
});
process.stdout.write(`${JSON.stringify(report)}\n`);
