import { type EvalReport, evaluate } from '@flotilla/compiler';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { boardOption, preprocessOption, threadsOption } from '../options.ts';
import { type Globals, print } from '../output.ts';
import { progressBar } from '../progress.ts';
import { percent, range } from '../text.ts';

interface Args extends Globals {
  readonly model: string;
  readonly data: string;
  readonly preprocess: string | undefined;
  readonly metric: string | undefined;
  readonly against: string | undefined;
  readonly keys: string | undefined;
  readonly board: string;
  readonly threads: number;
}

// `eval` is no name that a module may bind.
export const evalCommand: CommandModule<Globals, Args> = {
  command: 'eval <model>',
  describe: 'Score a model or pack on data, alone or beside another',
  builder: (args) =>
    args
      .positional('model', { type: 'string', demandOption: true, describe: '.onnx file, folder or pack' })
      .option('data', { type: 'string', demandOption: true, describe: 'Evaluation samples, PATH[:N]' })
      .option('preprocess', preprocessOption())
      .option('metric', {
        type: 'string',
        describe: 'top1, ctc-text, perplexity, exact-match, box-f1, cosine, or FILE.mjs; default: by the data',
      })
      .option('against', { type: 'string', describe: 'Model or pack to run on the same samples' })
      .option('keys', { type: 'string', describe: "Characters or labels of the classes; default: the pack's" })
      .option('board', boardOption())
      .option('threads', threadsOption())
      .example(
        'flotilla eval labels.pack --data judge/ --metric ctc-text --against rec.onnx',
        'both on the same lines, in the same run',
      ),
  async handler(argv) {
    const { data, preprocess, metric, against, keys, board, threads } = argv;
    const bar = progressBar(argv);
    const onProgress = (done: number, total: number | undefined) => bar.update({ step: 'evaluate', done, total });
    try {
      const report = await evaluate(argv.model, {
        data,
        preprocess,
        metric,
        against,
        keys,
        board,
        threads,
        signal: untilInterrupted(),
        onProgress,
      });
      bar.end();
      print(argv, report, evalText);
    } finally {
      bar.end();
    }
  },
};

function evalText({ metric, samples, value, interval, against, kept, keptInterval }: EvalReport): string {
  const own = `${metric} ${value.toFixed(4)}${range(interval, (end) => end.toFixed(4))} on ${samples} samples`;
  if (against === undefined || kept === undefined) return own;
  return `${own} beside ${against.toFixed(4)}: ${percent(kept)}${range(keptInterval, percent)} kept`;
}
