import {
  type CompileReport,
  compile as compileModel,
  formatRecipe,
  type LatencyReport,
  recipeOf,
} from '@flotilla/compiler';
import { readPrivateKey } from '@flotilla/pack';
import type { CommandModule } from 'yargs';
import { CliError } from '../errors.ts';
import { EXIT } from '../failure.ts';
import { untilInterrupted } from '../interrupt.ts';
import { parseCombine, parseLora } from '../lora-options.ts';
import { numberIn } from '../option-values.ts';
import { preprocessOption, THREADS } from '../options.ts';
import { type Globals, print, say } from '../output.ts';
import { progressBar } from '../progress.ts';
import { setting } from '../settings.ts';
import { bytes, facts, ms, percent, range, table } from '../text.ts';

interface Args extends Globals {
  readonly model: string;
  readonly out: string | undefined;
  readonly weights: string;
  readonly activations: string | undefined;
  readonly block: number | undefined;
  readonly method: string | undefined;
  readonly head: string | undefined;
  readonly 'kv-cache': string;
  readonly layout: string;
  readonly recipe: string | undefined;
  readonly 'fix-shape': readonly string[];
  readonly explain: boolean;
  readonly data: string | undefined;
  readonly preprocess: string | undefined;
  readonly eval: string | undefined;
  readonly metric: string | undefined;
  readonly keys: string | undefined;
  readonly budget: readonly string[];
  readonly floor: number | undefined;
  readonly base: string | undefined;
  readonly lora: readonly string[];
  readonly 'lora-mode': string;
  readonly 'base-pack': string | undefined;
  readonly 'lora-combine': string | undefined;
  readonly 'lora-map': string | undefined;
  readonly 'lora-any-base': boolean;
  readonly board: readonly string[];
  readonly 'latency-budget': readonly string[];
  readonly name: string | undefined;
  readonly key: string | undefined;
  readonly report: string | undefined;
  readonly threads: number | undefined;
  readonly resume: boolean;
  readonly force: boolean;
}

export const compile: CommandModule<Globals, Args> = {
  command: 'compile <model>',
  describe: 'Quantize a model, judge it against fp32 and pack it',
  builder: (args) =>
    args
      .positional('model', {
        type: 'string',
        demandOption: true,
        describe: '.onnx file, folder of a Hugging Face export, or pack',
      })
      .option('out', {
        alias: 'o',
        type: 'string',
        describe: 'NAME.pack: one tar; NAME.onnx: the bare portable model; else a directory',
      })
      .option('layout', {
        choices: ['pack', 'transformers'],
        default: 'pack',
        describe: 'pack, or transformers: a folder for transformers.js',
      })
      .option('weights', {
        choices: ['int8', 'int4', 'nf4', 'fp4', 'fp16', 'fp32'],
        default: 'int8',
        describe: 'Format of the weights; fp32: clean-up only',
      })
      .option('activations', {
        choices: ['int8', 'dynamic', 'none'],
        describe: 'Format of the activations; none: weights alone; default: by the weights',
      })
      .option('block', {
        type: 'number',
        choices: [16, 32, 64, 128, 256],
        describe: 'Weights that share a scale, for int4, nf4 and fp4',
      })
      .option('method', {
        choices: ['auto', 'rtn', 'hqq', 'gptq', 'awq'],
        describe: 'How int4 is found; auto: gptq where there is data, else rtn',
      })
      .option('head', { choices: ['int8', 'int4'], describe: 'The last layer beside int4 weights; default int8' })
      .option('kv-cache', {
        choices: ['fp32', 'int8'],
        default: 'fp32',
        describe: "A language model's KV cache; int8 is calibrated",
      })
      .option('recipe', { type: 'string', describe: 'Recipe file instead of a built-in one' })
      .option('fix-shape', {
        type: 'string',
        array: true,
        default: [],
        describe: 'Fixed lengths for an input, NAME=1x3x48x320',
      })
      .option('explain', { type: 'boolean', default: false, describe: 'Print the recipe and stop' })
      .option('data', {
        type: 'string',
        describe: 'Calibration samples, PATH[:N]; without --eval a part of them judges',
      })
      .option('preprocess', preprocessOption())
      .option('eval', {
        type: 'string',
        describe: 'Evaluation samples for the verdict, PATH[:N]; never what is calibrated on',
      })
      .option('metric', {
        type: 'string',
        describe: 'top1, ctc-text, perplexity, exact-match, box-f1, cosine, or FILE.mjs',
      })
      .option('keys', { type: 'string', describe: 'Characters or labels of the classes, one a line' })
      .option('budget', {
        type: 'string',
        array: true,
        default: [],
        describe: 'Search for the best mixture: size=4MB, accuracy=0.98 or latency=12ms; repeatable',
      })
      .option('floor', {
        type: 'number',
        coerce: numberIn('floor', { least: 0, most: 1 }),
        describe: "Share of fp32's score that must be kept; default: the budget's accuracy, else 0.98",
      })
      .option('base', {
        type: 'string',
        describe: "Weights in place of the graph's own: .safetensors, its index or folder; bitsandbytes 4 bits too",
      })
      .option('lora', {
        type: 'string',
        array: true,
        default: [],
        describe: 'PEFT adapter, DIR[:WEIGHT]; repeatable',
      })
      .option('lora-mode', {
        choices: ['merge', 'branch', 'rebuild'],
        default: 'merge',
        describe:
          'merge; branch: adapters lie beside the base in the pack; rebuild: devices that have --base-pack merge',
      })
      .option('base-pack', { type: 'string', describe: 'The pack that the fleet holds, for --lora-mode rebuild' })
      .option('lora-combine', {
        type: 'string',
        describe: 'How several adapters become one, METHOD[:KEY=VALUE,…]; default: cat, one after the other',
      })
      .option('lora-map', { type: 'string', describe: 'YAML file, MODULE: NODE or NODE[BEGIN:END] a line' })
      .option('lora-any-base', {
        type: 'boolean',
        default: false,
        describe: 'Merge although the adapter names another base model',
      })
      .option('board', {
        type: 'string',
        array: true,
        default: [],
        describe: 'Boards that the pack is for; default: all known',
      })
      .option('latency-budget', {
        type: 'string',
        array: true,
        default: [],
        describe: "Upper bound of the median run, BOARD=MS; '*' for any board",
      })
      .option('name', { type: 'string', describe: "What the pack is called; default: the model's name" })
      .option('key', { type: 'string', default: setting('key'), describe: 'Private key file that signs the pack' })
      .option('report', { type: 'string', describe: 'Write FILE.html: verdict, distributions, error and time by node' })
      .option('threads', {
        type: 'number',
        ...(setting('threads') !== undefined && { default: Number(setting('threads')) }),
        coerce: numberIn('threads', THREADS),
        describe: 'For converting weights, default: all cores; to judge and measure, default 1',
      })
      .option('resume', {
        type: 'boolean',
        default: false,
        describe: 'Go on where a run that was killed stopped; if this one fails, keep what is finished',
      })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'Exit 0 although the verdict is no, or there is none',
      })
      .example(
        'flotilla compile rec.onnx -o rec.pack --data calibrate/ --eval judge/ --metric ctc-text --keys keys.txt',
        'int8, calibrated, judged',
      )
      .example(
        'flotilla compile llama/ -o commands.pack --weights int4 --lora intents/ --eval eval.jsonl:60',
        'adapter merged, int4',
      ),
  async handler(argv) {
    if (argv.explain) return explain(argv);
    if (argv.out === undefined)
      throw new CliError('cli/usage', 'where to? -o is missing', { hint: 'for example -o model.pack' });
    const bar = progressBar(argv);
    const signal = untilInterrupted();
    try {
      const report = await compileModel(argv.model, argv.out, {
        ...pick(argv),
        base: argv.base,
        lora: argv.lora.map(parseLora),
        loraCombine: argv['lora-combine'] === undefined ? undefined : parseCombine(argv['lora-combine']),
        loraMap: argv['lora-map'],
        loraAnyBase: argv['lora-any-base'],
        latencyBudgetUs: Object.fromEntries(argv['latency-budget'].map(parseBudget)),
        key: argv.key === undefined ? undefined : await readPrivateKey(argv.key),
        reportHtml: argv.report,
        signal,
        onProgress: (progress) => bar.update(progress),
      });
      bar.end();
      print(argv, report, compileText);
      if (!argv.json) for (const warning of report.warnings) say(argv, `warning: ${warning}`);
      for (const objection of report.objections) say(argv, `${argv.force ? 'forced' : 'no'}: ${objection}`);
      if (report.objections.length > 0 && !argv.force) process.exitCode = EXIT.verdictNo;
    } finally {
      bar.end();
    }
  },
};

/** What goes to the compiler under the name that it has here. */
function pick({ weights, activations, block, method, recipe, data, preprocess, metric, keys, floor, ...rest }: Args) {
  const { head, eval: judge, name, resume, board, budget, force, threads } = rest;
  const boards = board.length > 0 ? board : undefined;
  const given = rest['fix-shape'].map(parseShape);
  const fixShapes = given.length > 0 ? Object.fromEntries(given) : undefined;
  const { 'kv-cache': kvCache, 'lora-mode': loraMode, 'base-pack': basePack, layout } = rest;
  const how = {
    weights,
    activations,
    block,
    method,
    head,
    recipe,
    budget,
    fixShapes,
    kvCache,
    loraMode,
    basePack,
    layout,
  };
  return { ...how, data, preprocess, eval: judge, metric, keys, floor, name, threads, resume, force, boards };
}

async function explain(argv: Args): Promise<void> {
  print(argv, await recipeOf(pick(argv)), formatRecipe);
}

/** `NAME=1x3x48x320`; a name may hold `=`. @throws {CliError} `cli/usage` */
function parseShape(text: string): readonly [string, readonly number[]] {
  const match = /^(.+)=(\d+(?:x\d+)*)$/.exec(text);
  if (match?.[1] === undefined || match[2] === undefined)
    throw new CliError('cli/usage', `--fix-shape ${text} is not NAME=LENGTHS`, { hint: 'for example x=1x3x48x320' });
  return [match[1], match[2].split('x').map(Number)];
}

/** `BOARD=12` or `BOARD=12ms`, as microseconds. @throws {CliError} `cli/usage` */
function parseBudget(text: string): readonly [string, number] {
  const match = /^([^=]+)=([\d.]+)(?:ms)?$/.exec(text);
  const milliseconds = Number(match?.[2]);
  if (match?.[1] === undefined || !(milliseconds > 0))
    throw new CliError('cli/usage', `--latency-budget ${text} is not BOARD=MS`, {
      hint: 'for example raspberrypi-5=12ms',
    });
  return [match[1], Math.round(milliseconds * 1000)];
}

function compileText(report: CompileReport): string {
  const { model, pack, verdict, latency } = report;
  const rows: [string, string][] = [
    [
      'size',
      `${bytes(pack.modelBytes)} of ${bytes(model.bytes)} (${percent(report.ratio)}), ${model.parameters} parameters`,
    ],
    ['pack', `${pack.path}, ${bytes(pack.bytes)}${pack.digest === null ? '' : `, ${pack.digest}`}`],
    ['nodes', `${report.nodes.quantized} quantized, ${report.nodes.float} with weights stay float`],
  ];
  rows.push(...mergeRows(report));
  for (const { name, rank, bytes: size, verdict } of report.adapters ?? []) {
    const kept = verdict ? `, ${verdict.metric} ${percent(verdict.kept)} kept` : '';
    rows.push(['adapter', `${name}, rank ${rank}, ${bytes(size)}${kept}`]);
  }
  if (report.rebuild) {
    const { base, rank, bytes: size } = report.rebuild;
    rows.push(['rebuild', `${bytes(size)} of factors, rank ${rank}, on ${base}`]);
  }
  if (report.budget) rows.push(['budget', report.budget.why]);
  rows.push(...verdictRows(verdict));
  if (latency) rows.push(...latencyRows(latency));
  rows.push(['took', `${report.seconds.toFixed(1)} s, peak RSS ${bytes(report.peakRssBytes)}`]);
  const float =
    report.float.length === 0
      ? ''
      : `\n\nstays float:\n${table(
          ['node', 'op', 'reason'],
          report.float.map(({ node, op, reason }) => [node, op, reason]),
        )}`;
  return facts(rows) + float;
}

function verdictRows(verdict: CompileReport['verdict']): [string, string][] {
  if (!verdict) return [['verdict', 'none: nothing was left to judge on']];
  const { ok, metric, quantized, fp32, samples, kept, interval, floor, sqnrDb, language, splits } = verdict;
  const score = `${metric} ${quantized.toFixed(4)} beside fp32's ${fp32.toFixed(4)} on ${samples} samples`;
  const rows: [string, string][] = [
    [
      'verdict',
      `${ok ? 'yes' : 'NO'}: ${score}, ${percent(kept)}${range(interval, percent)} kept, floor ${percent(floor)}`,
    ],
    ['outputs', sqnrDb === null ? "equal to fp32's" : `${sqnrDb.toFixed(1)} dB signal to noise`],
  ];
  if (language)
    rows.push([
      'tokens',
      `mean KLD ${language.kld.mean.toFixed(5)}, same top p ${language.sameTopPercent.toFixed(1)} %, on ${language.tokens}`,
    ]);
  const count = (size: number | null): string => (size === null ? 'all' : String(size));
  const parts = `${count(splits.calibrate)} calibrated, ${count(splits.choose)} chose, ${count(splits.judge)} judged`;
  rows.push(['samples', `${parts}; candidates: ${verdict.candidates}`]);
  return rows;
}

function latencyRows({ quantized, fp32, speedup, interval, threads, cleanup }: LatencyReport): [string, string][] {
  const times = (ratio: number): string => `${ratio.toFixed(2)}×`;
  const beside = `${ms(quantized.p50Us)} beside fp32's ${ms(fp32.p50Us)}`;
  const rows: [string, string][] = [
    ['latency', `${beside}: ${times(speedup)}${range(interval, times)} at ${threads} thread(s)`],
  ];
  if (cleanup) rows.push(['clean-up', `alone ${ms(cleanup.p50Us)}: ${times(cleanup.speedup)}`]);
  return rows;
}

/** Where the weights came from, and what quantizing took from them. */
function mergeRows({ base, requantization }: CompileReport): [string, string][] {
  const rows: [string, string][] = [];
  if (base)
    rows.push(['base', `${base.tensors} tensors of ${base.path}, ${base.fourBit} of them dequantized from 4 bits`]);
  if (requantization) {
    const { layers, snrDb, worst } = requantization;
    const each = `the worst ${worst.snrDb.toFixed(1)} dB, ${worst.node}`;
    rows.push(['requantized', `${layers} merged layers' weights at ${snrDb.toFixed(1)} dB signal to noise; ${each}`]);
  }
  return rows;
}
