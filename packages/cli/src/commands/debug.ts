import { debug as debugModel, type DebugReport, type NodeError } from '@flotilla/compiler';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { parseLora } from '../lora-options.ts';
import { numberIn } from '../option-values.ts';
import { preprocessOption } from '../options.ts';
import { type Globals, print } from '../output.ts';
import { progressBar } from '../progress.ts';
import { table } from '../text.ts';

interface Args extends Globals {
  readonly model: string;
  readonly against: string;
  readonly data: string;
  readonly preprocess: string | undefined;
  readonly lora: readonly string[];
  readonly 'lora-map': string | undefined;
  readonly samples: number;
  readonly 'floor-db': number | undefined;
  readonly all: boolean;
}

export const debug: CommandModule<Globals, Args> = {
  command: 'debug <model>',
  describe: 'Run a pack or model beside the right one and name the first node where they part',
  builder: (args) =>
    args
      .positional('model', { type: 'string', demandOption: true, describe: '.onnx file, folder or pack' })
      .option('against', { type: 'string', demandOption: true, describe: 'The right model: what it was made from' })
      .option('data', { type: 'string', demandOption: true, describe: 'Samples or prompts to run, PATH[:N]' })
      .option('preprocess', preprocessOption())
      .option('lora', {
        type: 'string',
        array: true,
        default: [],
        describe: 'Adapter that was merged, DIR[:WEIGHT]: merged into the right model too',
      })
      .option('lora-map', { type: 'string', describe: 'As for compile' })
      .option('samples', {
        type: 'number',
        default: 4,
        coerce: numberIn('samples', { least: 1, whole: true }),
        describe: 'Samples that are run at most',
      })
      .option('floor-db', {
        type: 'number',
        coerce: numberIn('floor-db', { least: -300, most: 300 }),
        describe:
          "Own error, as SQNR, under which a node parts; default: as far under the nodes' median as four deviations of theirs, 10 to 25 dB",
      })
      .option('all', { type: 'boolean', default: false, describe: "Every node, in the graph's order" })
      .example('flotilla debug labels.pack --against rec.onnx --data calibrate/:4', 'where a bad result comes from')
      .example(
        'flotilla debug commands.pack --against llama/ --lora intents/ --data prompts.jsonl',
        'a language model with its adapter',
      ),
  async handler(argv) {
    const bar = progressBar(argv);
    const { model, against, data, preprocess, all } = argv;
    try {
      const report = await debugModel(model, {
        against,
        data,
        preprocess,
        lora: argv.lora.map(parseLora),
        loraMap: argv['lora-map'],
        samples: argv.samples,
        floorDb: argv['floor-db'],
        signal: untilInterrupted(),
        onProgress: (progress) => bar.update(progress),
      });
      bar.end();
      print(argv, report, (r) => debugText(r, all));
    } finally {
      bar.end();
    }
  },
};

const SHOWN = 12;

function debugText(report: DebugReport, all: boolean): string {
  const { firstDivergence: first, nodes, matched, unmatched, floorDb, samples } = report;
  const found = first
    ? `they part at ${first.op} ${first.node}: given the right values, its own value ${first.tensor} keeps ${decibels(first.ownDb)} (floor ${floorDb.toFixed(0)} dB)${gain(first)}`
    : `no node stands out: each keeps ${floorDb.toFixed(0)} dB or more of its own value`;
  const listed = all ? nodes : nodes.toSorted((a, b) => (a.ownDb ?? Infinity) - (b.ownDb ?? Infinity)).slice(0, SHOWN);
  const title = all ? "in the graph's order" : `largest errors of their own (--all shows the ${nodes.length} in order)`;
  const rows = listed.map((n) => [n.node, n.op, n.tensor, decibels(n.ownDb), decibels(n.sqnrDb), n.ownGain ?? '–']);
  return [
    found,
    `${samples} samples, ${matched} values matched, ${unmatched.length} not`,
    `${title}\n${table(['node', 'op', 'value', 'own', 'in all', 'factor'], rows)}`,
  ].join('\n\n');
}

/** Worth a word where the value is a multiple of what it should be. */
function gain({ ownGain }: NodeError): string {
  const isFactor = ownGain !== null && Math.abs(Math.log2(Math.abs(ownGain) || 1)) > 0.25;
  return isFactor || (ownGain !== null && ownGain <= 0) ? `; on the whole it is ${ownGain} times too large` : '';
}

function decibels(value: number | null): string {
  return value === null ? 'exact' : value <= -300 ? 'not finite' : `${value.toFixed(1)} dB`;
}
