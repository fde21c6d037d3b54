import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { builds, writeData } from '../models/builds.ts';
import { print } from '../tiers/run.ts';
import { describeMachine, type Machine } from './machine.ts';
import { type BuildFigures, measureBuild } from './measure.ts';
import { benchCompile } from './compile/bench-compile.ts';
import { benchText } from './text/bench-text.ts';
import { benchZoo, sizesOf } from './zoo/bench-zoo.ts';
import { writeBenchmarks } from './zoo/benchmarks.ts';
import { aheadSection } from './peers/ahead.ts';
import { benchPeers } from './peers/bench-peers.ts';
import { NOT_TAKEN } from './zoo/kept.ts';
import { tableOf } from './zoo/table.ts';

// main [--json] [--quick]: the builds that the project is measured on; main text [--peers] [--folder DIR]: text generation.
// main compile [--gigabytes 1] [--folder DIR]: memory and time of the compiler on a large model, beside cp.
// main zoo: public models by every recipe; main peers: the same by other tools; main zoo --peers: both in one run. Each
// shows what is known of the other. [--only NAME] (of other models, what is known) [--folder DIR] (what is in it, by the
// same code, is not taken again) [--again] (speed is, and the peers' seconds) [--write] (BENCHMARKS.md: all that is known).
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    peers: { type: 'boolean', default: false },
    folder: { type: 'string' },
    only: { type: 'string', multiple: true },
    again: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    gigabytes: { type: 'string', default: '1' },
  },
});
// The fewer lines, the less a figure says: 100 lines place a share within ± 6 %, 600 within ± 2.5 %.
const sizes = values.quick
  ? { calibrate: 64, judge: 100, commands: 20 }
  : { calibrate: 200, judge: 600, commands: 300 };
const say = (line: string): void => void process.stderr.write(`${line}\n`);

const started = performance.now();
const machine = await describeMachine();
if (!values.json) printMachine(machine);
if (positionals[0] === 'text') await benchText(values);
else if (positionals[0] === 'compile') await benchCompile({ ...values, gigabytes: Number(values.gigabytes), say });
else if (positionals[0] === 'zoo') await benchPublic({ ours: true, theirs: values.peers });
else if (positionals[0] === 'peers') await benchPublic({ ours: false, theirs: true });
else await benchBuilds();
const seconds = (performance.now() - started) / 1000;
if (!values.json) print(`\n${seconds.toFixed(0)} s`);

async function benchPublic({ ours, theirs }: { readonly ours: boolean; readonly theirs: boolean }): Promise<void> {
  const load = loadavg()[0] ?? 0;
  const { quick, only, again, write } = values;
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const folder = values.folder ?? join(cache, 'flotilla', quick ? 'bench-quick' : 'bench');
  const options = { quick, only, again, folder, say };
  const zoo = await benchZoo(options, ours);
  const peers = await benchPeers(options, theirs ? join(cache, 'flotilla', 'peers') : null);
  if (values.json) print(JSON.stringify({ machine, zoo, peers }));
  else for (const line of [...tableOf([...zoo, ...peers]), '', ...aheadSection(zoo, peers)]) print(line);
  if (write) say(await writeBenchmarks({ machine, sizes: sizesOf(quick), load, zoo, peers }));
  process.exitCode = zoo.some(({ failed }) => failed !== null && failed !== NOT_TAKEN) ? 4 : 0;
}

async function benchBuilds(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'flotilla-bench-'));
  const figures: BuildFigures[] = [];
  try {
    const data = join(folder, 'data');
    await writeData(data, sizes);
    for (const build of builds) {
      say(`${build.model} ${build.weights} …`);
      const measured = await measureBuild(build, data, join(folder, `${build.model}-${build.weights}.pack`));
      figures.push(measured);
      if (!values.json) printFigures(measured);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  if (values.json) print(JSON.stringify({ machine, models: figures, seconds: (performance.now() - started) / 1000 }));
  // As everywhere: the work was done and the verdict is no.
  process.exitCode = figures.some(({ misses }) => misses.length > 0) ? 4 : 0;
}

function printMachine(it: Machine): void {
  const ram = `${(it.ramBytes / 1e9).toFixed(1)} GB`;
  print(`${it.cpu}, ${it.cores} cores, ${ram}, ${it.boardClass} (${it.features.join(' ')})`);
  print(`${it.system}, Node ${it.node.slice(1)}, ONNX Runtime ${it.onnxruntime}, 1 thread, evaluation data only`);
}

function printFigures(it: BuildFigures): void {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const ms = (us: number) => `${(us / 1000).toFixed(us < 10_000 ? 2 : 1)} ms`;
  const right = (share: number) => `${Math.round(share * it.samples)} of ${it.samples}`;
  const rows: [string, string][] = [
    ['size', `${it.fp32Bytes} → ${it.modelBytes} bytes, ${percent(it.ratio)}`],
    [it.metric, `${right(it.fp32)} → ${right(it.quantized)}, ${percent(it.kept)} kept`],
    ['median run', `${ms(it.fp32P50Us)} → ${ms(it.p50Us)}, ${it.speedup.toFixed(2)} times as fast as fp32`],
    ['over bare ONNX Runtime', percent(it.overhead)],
    ...textRows(it.text),
    [
      'time goes to',
      it.operators
        .slice(0, 6)
        .map(({ op, nodes, share }) => `${op} × ${nodes} ${percent(share)}`)
        .join(', '),
    ],
  ];
  print(`\n${it.model} ${it.weights}`);
  for (const [name, value] of rows) print(`  ${name.padEnd(24)}${value}`);
  for (const miss of it.misses) print(`  UNDER THE FLOOR         ${miss}`);
}

function textRows(text: BuildFigures['text']): [string, string][] {
  if (text === null) return [];
  const { commands, right, rightBySchema, validBySchema } = text;
  const ms = (us: number | null) => (us === null ? '–' : `${(us / 1000).toFixed(2)} ms`);
  return [
    ['first token', ms(text.timeToFirstTokenUs)],
    [
      'next tokens',
      `p50 ${ms(text.tokenP50Us)}, p95 ${ms(text.tokenP95Us)}, ${text.tokensPerSecond.toFixed(0)} a second`,
    ],
    ['outside ONNX Runtime', `${(100 * text.overheadShare).toFixed(1)} % of the time`],
    ['by a schema', `${validBySchema} of ${commands} valid, ${rightBySchema} right (${right} without)`],
  ];
}
