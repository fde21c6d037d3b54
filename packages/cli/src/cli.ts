import { readFile } from 'node:fs/promises';
import yargs, { type CommandModule } from 'yargs';
import { CliError } from './errors.ts';
import { describeError, EXIT, exitCodeOf, failureLine } from './failure.ts';
import { isInterruption } from './interrupt.ts';
import { beginOutput, type Globals, printFailure } from './output.ts';

type Command = CommandModule<Globals, never>;

/**
 * Local verbs are one word; things with a life of their own are noun + verb. Each is loaded when it is called: an agent
 * has no use for the controller's database, and a person waits for neither.
 */
const COMMANDS: { readonly [name: string]: () => Promise<unknown> } = {
  agent: async () => (await import('./commands/agent.ts')).agent,
  bench: async () => (await import('./commands/bench.ts')).bench,
  boards: async () => (await import('./commands/boards.ts')).boards,
  compare: async () => (await import('./commands/compare.ts')).compare,
  compile: async () => (await import('./commands/compile.ts')).compile,
  config: async () => (await import('./commands/config.ts')).config,
  controller: async () => (await import('./commands/controller.ts')).controller,
  debug: async () => (await import('./commands/debug.ts')).debug,
  device: async () => (await import('./commands/device.ts')).device,
  eval: async () => (await import('./commands/eval.ts')).evalCommand,
  inspect: async () => (await import('./commands/inspect.ts')).inspect,
  keys: async () => (await import('./commands/keys.ts')).keys,
  pack: async () => (await import('./commands/pack.ts')).pack,
  publish: async () => (await import('./commands/publish.ts')).publish,
  release: async () => (await import('./commands/release.ts')).release,
  rollout: async () => (await import('./commands/rollout.ts')).rollout,
  run: async () => (await import('./commands/run.ts')).run,
};

interface Versioned {
  readonly version: string;
}

/** Runs one command line and returns the exit code. Failures are printed, never thrown. */
export async function runCli(args: readonly string[]): Promise<number> {
  const json = args.includes('--json');
  beginOutput();
  try {
    // Not an option of yargs: `publish` has one of that name.
    if (args[0] === '--version') return await printVersion(json);
    await parser(args, await commandsOf(args)).parseAsync();
    return Number(process.exitCode ?? EXIT.done);
  } catch (error) {
    if (isInterruption(error)) {
      process.stderr.write('interrupted\n');
      return EXIT.interrupted;
    }
    const failure = describeError(error);
    if (json) printFailure(failure);
    process.stderr.write(`${failureLine(failure)}\n`);
    if (args.includes('--verbose') && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    return exitCodeOf(failure, error);
  }
}

async function printVersion(json: boolean): Promise<number> {
  const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as Versioned;
  process.stdout.write(`${json ? JSON.stringify({ version }) : version}\n`);
  return EXIT.done;
}

/** The one command that is called; all of them for `--help`, and to find what a mistyped one was meant to be. */
async function commandsOf(args: readonly string[]): Promise<readonly Command[]> {
  const name = args.find((arg) => !arg.startsWith('-')) ?? '';
  const loaders = Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]] : Object.values(COMMANDS);
  return Promise.all(loaders.map(async (load) => (await load?.()) as Command));
}

function parser(args: readonly string[], commands: readonly Command[]) {
  const cli = yargs([...args])
    .scriptName('flotilla')
    .usage('$0 COMMAND\n\nPuts quantized models on edge devices: compile, roll out over MQTT, measure on the device.')
    .option('json', {
      type: 'boolean',
      default: false,
      global: true,
      describe: 'Print exactly one JSON object on stdout',
    })
    .option('quiet', { type: 'boolean', default: false, global: true, describe: 'No progress, no text' })
    .option('verbose', { type: 'boolean', default: false, global: true, describe: 'Print the stack of an error' })
    .strict()
    .demandCommand(1, 1, 'which command?')
    .recommendCommands()
    .wrap(Math.min(120, process.stdout.columns ?? 120))
    .version(false)
    .help()
    .check(hasOneOfEach)
    .exitProcess(false)
    .fail((message, error) => {
      // What an option's own check throws arrives as yargs' kind of error.
      throw error === undefined || error.name === 'YError' ? usageError(message) : error;
    });
  for (const command of commands) cli.command(command);
  return cli;
}

/** yargs makes NaN of words where a number is wanted, and lists of what is given twice. */
function hasOneOfEach(argv: { readonly [option: string]: unknown }, options: object): true {
  // Its types speak of aliases; what comes is yargs' table of options, by kind.
  const lists: readonly unknown[] = 'array' in options && Array.isArray(options.array) ? options.array : [];
  for (const [option, value] of Object.entries(argv)) {
    if (Number.isNaN(value)) throw new CliError('cli/usage', `--${option} must be a number`, { hint: 'see --help' });
    // Each option stands there under its alias and in camel case, too.
    if (Array.isArray(value) && value.length > 1 && /^[a-z-]{2,}$/.test(option) && !lists.includes(option))
      throw new CliError('cli/usage', `--${option} is given ${value.length} times`, { hint: 'give it once' });
  }
  return true;
}

function usageError(message: string): CliError {
  const choice = /Argument: (.+?), Given: (.+?), Choices: (.+)/.exec(message);
  if (choice !== null)
    return new CliError('cli/usage', `--${choice[1]} is one of ${choice[3]?.replaceAll('"', '')}, not ${choice[2]}`);
  const line = message.split('\n')[0] ?? message;
  // yargs says only this when a command is nearly one that exists.
  const near = /^Did you mean (.*)\?$/.exec(line)?.[1];
  return near === undefined
    ? new CliError('cli/usage', line, { hint: 'see flotilla --help' })
    : new CliError('cli/usage', 'unknown command', { hint: `did you mean ${near}?` });
}
