import { cpus } from 'node:os';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileModels, makeKeys } from './compile-models.ts';
import { showFleet, startFleet } from './fleet.ts';
import { askDevice, measureFleet } from './measure.ts';
import { Processes } from './processes.ts';
import { refuseBadReleases } from './bad-releases.ts';
import { reportPage } from './report.ts';
import type { DemoResult } from './result.ts';
import { rollOut } from './roll-out.ts';
import { Screen } from './screen.ts';

// The main job on embedded defaults: compile, roll out, measure, refuse what is bad. See the README.

const args = process.argv.slice(2);
if (args.some((arg) => arg !== '--json' && arg !== '--verbose')) {
  process.stderr.write('usage: scripts/demo [--json] [--verbose]\n');
  process.exit(args.includes('--help') ? 0 : 2);
}
const json = args.includes('--json');
const screen = new Screen(json ? process.stderr : process.stdout);
const processes = new Processes();
const work = await mkdtemp(join(tmpdir(), 'flotilla-demo-'));
const interrupted = () => void processes.stopAll().finally(() => process.exit(130));
process.once('SIGINT', interrupted);
process.once('SIGTERM', interrupted);

try {
  const result = await demo();
  screen.say(`\nEvery step held. ${result.seconds.toFixed(0)} s; demo-report.html shows it.`);
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
} catch (error) {
  process.stderr.write(`demo failed: ${error instanceof Error ? error.message : String(error)}\n`);
  if (args.includes('--verbose') && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
  process.exitCode = 1;
} finally {
  await processes.stopAll();
  await rm(work, { recursive: true, force: true });
}

async function demo(): Promise<DemoResult> {
  const start = performance.now();
  const keys = await makeKeys(work);
  const starting = startFleet(work, keys.publicFile, processes);
  starting.catch(() => {}); // waited for below
  screen.heading('1  Compile two models, judge each against fp32 on data it has not seen');
  const compiled = await compileModels(work, keys, processes, screen);

  screen.heading('2  A controller with its embedded broker, three agents, each another board');
  const fleet = await starting;
  await showFleet(fleet, screen);

  screen.heading('3  Publish and roll out, both at once: one canary, then the rest');
  const rolledOut = await Promise.all(compiled.packs.map((pack) => rollOut(fleet.client, pack, '1.0.0', screen)));
  const timeline = rolledOut.flatMap((each) => each.timeline);

  screen.heading('4  Each device runs its models and tells the controller how fast');
  const devices = await measureFleet(fleet, compiled.packs, screen);
  const command = await askDevice(fleet, screen);

  screen.heading('5  A bad release and a slow one: the canary must refuse both');
  const bad = await refuseBadReleases(work, fleet, compiled, screen);

  const result: DemoResult = {
    models: compiled.models,
    fleet: devices,
    badReleases: bad.results,
    command,
    seconds: Math.round((performance.now() - start) / 100) / 10,
  };
  await writeFile('demo-report.html', reportPage(result, [...timeline, ...bad.timeline], machine()));
  return result;
}

function machine(): string {
  return `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}, ${process.platform} ${process.arch}`;
}
