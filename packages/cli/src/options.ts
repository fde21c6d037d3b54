import { CliError } from './errors.ts';
import { setting } from './settings.ts';

// Options that several commands share. Their defaults are settings, so that `--help` shows what is in force.

export const boardOption = () =>
  ({
    type: 'string',
    default: setting('board') ?? 'host',
    describe: 'Board by name or file; host is this machine',
  }) as const;

export const threadsOption = () =>
  ({
    type: 'number',
    default: Number(setting('threads') ?? 1),
    coerce: wholeThreads,
    describe: 'Threads inside one operator',
  }) as const;

export const controllerOption = () =>
  ({
    type: 'string',
    default: setting('controller') ?? 'http://127.0.0.1:8080',
    describe: 'URL of the controller',
  }) as const;

export const tokenOption = () =>
  ({
    type: 'string',
    default: setting('token'),
    defaultDescription: 'FLOTILLA_TOKEN',
    describe: 'Bearer token, or @FILE that holds it',
  }) as const;

export const trustOption = () =>
  ({
    type: 'string',
    default: setting('trust'),
    describe: 'Public key file that the pack must be signed with; without it any or no signature is taken',
  }) as const;

export const preprocessOption = () =>
  ({
    type: 'string',
    describe: 'Rules by which a folder of pictures or .wav becomes inputs, FILE.yaml',
  }) as const;

/** NaN is left for the check that every number goes through. @throws {CliError} `cli/usage` */
function wholeThreads(value: number): number {
  if (Number.isNaN(value) || (Number.isInteger(value) && value >= 1)) return value;
  throw new CliError('cli/usage', `--threads must be a whole number of at least 1, not ${value}`);
}

/** A number of at least `least`; refuses NaN that yargs makes of words. @throws {CliError} `cli/usage` */
export function atLeast(option: string, value: number, least: number): number {
  if (Number.isFinite(value) && value >= least) return value;
  throw new CliError('cli/usage', `--${option} must be a number of at least ${least}`);
}
