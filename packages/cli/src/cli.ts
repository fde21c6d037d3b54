import yargs, { type CommandModule } from 'yargs';
import { agent } from './commands/agent.ts';
import { bench } from './commands/bench.ts';
import { boards } from './commands/boards.ts';
import { compile } from './commands/compile.ts';
import { config } from './commands/config.ts';
import { controller } from './commands/controller.ts';
import { device } from './commands/device.ts';
import { evalCommand } from './commands/eval.ts';
import { inspect } from './commands/inspect.ts';
import { keys } from './commands/keys.ts';
import { pack } from './commands/pack.ts';
import { publish } from './commands/publish.ts';
import { release } from './commands/release.ts';
import { rollout } from './commands/rollout.ts';
import { run } from './commands/run.ts';
import { CliError } from './errors.ts';
import { describeError, EXIT, exitCodeOf, failureLine } from './failure.ts';
import { isInterruption } from './interrupt.ts';
import type { Globals } from './output.ts';

/** Local verbs are one word; things with a life of their own are noun + verb. */
const COMMANDS = [
  agent,
  bench,
  boards,
  compile,
  config,
  controller,
  device,
  evalCommand,
  inspect,
  keys,
  pack,
  publish,
  release,
  rollout,
  run,
] as readonly CommandModule<Globals, never>[];

/** Runs one command line and returns the exit code. Failures are printed, never thrown. */
export async function runCli(args: readonly string[]): Promise<number> {
  const json = args.includes('--json');
  try {
    await parser(args).parseAsync();
    return Number(process.exitCode ?? EXIT.done);
  } catch (error) {
    if (isInterruption(error)) {
      process.stderr.write('interrupted\n');
      return EXIT.interrupted;
    }
    const failure = describeError(error);
    if (json) process.stdout.write(`${JSON.stringify({ error: failure })}\n`);
    process.stderr.write(`${failureLine(failure)}\n`);
    if (args.includes('--verbose') && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    return exitCodeOf(failure);
  }
}

function parser(args: readonly string[]) {
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
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? usageError(message);
    });
  for (const command of COMMANDS) cli.command(command);
  return cli;
}

function usageError(message: string): CliError {
  const line = message.split('\n')[0] ?? message;
  // yargs says only this when a command is nearly one that exists.
  const near = /^Did you mean (.*)\?$/.exec(line)?.[1];
  return near === undefined
    ? new CliError('cli/usage', line, { hint: 'see flotilla --help' })
    : new CliError('cli/usage', 'unknown command', { hint: `did you mean ${near}?` });
}
