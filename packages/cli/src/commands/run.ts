import { type ChatMessage, type GenerateOptions, writeNpz } from '@flotilla/runtime';
import type { CommandModule } from 'yargs';
import { CliError } from '../errors.ts';
import { untilInterrupted } from '../interrupt.ts';
import { type OpenModel, openModelOrPack, readFeeds } from '../open-model.ts';
import { readJson } from '../read-json.ts';
import { readMessages } from '../read-messages.ts';
import { numberIn } from '../option-values.ts';
import { boardOption, threadsOption, trustOption } from '../options.ts';
import { type Globals, print } from '../output.ts';

interface Args extends Globals {
  readonly model: string;
  readonly input: string | undefined;
  readonly output: string | undefined;
  readonly prompt: string | undefined;
  readonly chat: boolean;
  readonly messages: string | undefined;
  readonly system: string | undefined;
  readonly 'max-tokens': number;
  readonly temperature: number | undefined;
  readonly 'top-k': number | undefined;
  readonly 'top-p': number | undefined;
  readonly 'min-p': number | undefined;
  readonly 'repetition-penalty': number | undefined;
  readonly seed: number | undefined;
  readonly stop: readonly string[];
  readonly schema: string | undefined;
  readonly adapter: string | undefined;
  readonly threads: number;
  readonly board: string;
  readonly trust: string | undefined;
}

export const run: CommandModule<Globals, Args> = {
  command: 'run <model>',
  describe: 'Run a model or pack once: tensors in and out, or text',
  builder: (args) =>
    args
      .positional('model', { type: 'string', demandOption: true, describe: '.onnx file, folder with one, or pack' })
      .option('input', { type: 'string', describe: 'Inputs as .npz' })
      .option('output', { type: 'string', implies: 'input', describe: 'Where the outputs go, as .npz' })
      .option('prompt', { type: 'string', conflicts: 'input', describe: 'For the pack of a language model' })
      .option('max-tokens', {
        type: 'number',
        default: 64,
        coerce: numberIn('max-tokens', { least: 1, most: 65_536, whole: true }),
        describe: 'Longest answer',
      })
      .option('chat', {
        type: 'boolean',
        default: false,
        describe: "The prompt is a user's turn, by the chat template",
      })
      .option('messages', {
        type: 'string',
        conflicts: ['input', 'prompt', 'system'],
        describe: 'A whole conversation instead: a .json list of { role, content }',
      })
      .option('system', { type: 'string', implies: 'chat', describe: 'The turn before it' })
      .option('temperature', { type: 'number', describe: 'Above 0: draw tokens instead of taking the best' })
      .option('top-k', { type: 'number', describe: 'Draw from the k best' })
      .option('top-p', { type: 'number', describe: 'Draw from the best that are together so probable' })
      .option('min-p', { type: 'number', describe: 'Draw from those at least so probable as a share of the best' })
      .option('repetition-penalty', { type: 'number', describe: 'Above 1: what was said becomes less probable' })
      .option('seed', { type: 'number', describe: 'The same seed draws the same text' })
      .option('schema', { type: 'string', describe: 'File with a JSON Schema that the answer is valid against' })
      .option('adapter', { type: 'string', describe: 'One of those beside the model of the pack; default: none' })
      .option('stop', { type: 'string', array: true, default: [], describe: 'Text before which the answer ends' })
      .option('threads', threadsOption())
      .option('board', boardOption())
      .option('trust', trustOption())
      .example('flotilla run commands.pack --prompt "switch off the fan in the attic =>"', 'text on stdout as it comes')
      .example('flotilla run commands.pack --prompt "…" --schema command.json', 'an answer that a machine can read')
      .example('flotilla run labels.pack --input line.npz --output read.npz', 'tensors'),
  async handler(argv) {
    const ask = await asked(argv);
    if (ask === undefined && argv.input === undefined)
      throw new CliError('cli/usage', 'nothing to run: give --input or --prompt');
    const signal = untilInterrupted();
    const model = await openModelOrPack(argv.model, { ...argv, signal });
    try {
      if (ask === undefined) await runTensors(argv, model, argv.input ?? '', signal);
      else await runText(argv, model, ask, signal);
    } finally {
      await model.close();
    }
  },
};

async function runTensors(argv: Args, model: OpenModel, input: string, signal: AbortSignal): Promise<void> {
  if (argv.output === undefined) throw new CliError('cli/usage', '--output is missing: where do the outputs go?');
  const outputs = await model.session.run(await readFeeds(input), { adapter: argv.adapter, signal });
  await writeNpz(argv.output, outputs);
  const shapes = Object.entries(outputs).map(([name, { dtype, dims }]) => ({ name, dtype, dims }));
  print(argv, { output: argv.output, outputs: shapes }, (r) =>
    [r.output, ...r.outputs.map(({ name, dtype, dims }) => `${name} ${dtype} [${dims.join(', ')}]`)].join('\n'),
  );
}

/** A plain prompt, or a conversation. */
async function asked({ prompt, chat, system, messages }: Args): Promise<string | readonly ChatMessage[] | undefined> {
  if (messages !== undefined) return readMessages(messages);
  if (prompt === undefined || !chat) return prompt;
  const before = system === undefined ? [] : [{ role: 'system', content: system }];
  return [...before, { role: 'user', content: prompt }];
}

async function runText(
  argv: Args,
  model: OpenModel,
  ask: string | readonly ChatMessage[],
  signal: AbortSignal,
): Promise<void> {
  const streams = !argv.json && !argv.quiet;
  const onToken = streams ? (piece: string) => void process.stdout.write(piece) : undefined;
  const options = { ...(await textOptions(argv)), signal, onToken };
  const writer = model.text();
  const made = typeof ask === 'string' ? await writer.generate(ask, options) : await writer.chat(ask, options);
  const { text, tokens, timeToFirstTokenMs, tokensPerSecond, stopReason, promptTokens, seed } = made;
  if (streams) process.stdout.write('\n');
  else print(argv, { text, tokens, timeToFirstTokenMs, tokensPerSecond, stopReason, promptTokens, seed }, () => '');
}

async function textOptions(argv: Args): Promise<GenerateOptions> {
  return {
    maxTokens: argv['max-tokens'],
    temperature: argv.temperature,
    topK: argv['top-k'],
    topP: argv['top-p'],
    minP: argv['min-p'],
    repetitionPenalty: argv['repetition-penalty'],
    seed: argv.seed,
    adapter: argv.adapter,
    stop: argv.stop,
    schema: argv.schema === undefined ? undefined : await readJson('--schema', argv.schema),
  };
}
