import type { Credentials } from '@flotilla/pack';
import { readFile } from 'node:fs/promises';
import type { Argv } from 'yargs';
import { CliError } from './errors.ts';

export interface RegistryAccount {
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** Options of the commands that talk to an OCI registry. */
export function withAccount<T>(args: Argv<T>) {
  return args
    .option('username', {
      type: 'string',
      default: process.env['FLOTILLA_REGISTRY_USERNAME'],
      defaultDescription: 'FLOTILLA_REGISTRY_USERNAME, else what docker login keeps',
      describe: 'User at the registry',
    })
    .option('password', {
      type: 'string',
      default: process.env['FLOTILLA_REGISTRY_PASSWORD'],
      defaultDescription: 'FLOTILLA_REGISTRY_PASSWORD',
      describe: 'Password or token, or @FILE that holds it',
    });
}

/** @throws {CliError} `cli/usage` for one without the other */
export async function readAccount({ username, password }: RegistryAccount): Promise<Credentials | undefined> {
  if (username === undefined && password === undefined) return undefined;
  if (username === undefined || password === undefined)
    throw new CliError('cli/usage', `--${username === undefined ? 'username' : 'password'} is missing`, {
      hint: 'give both, or neither to use what docker login keeps',
    });
  return {
    username,
    password: password.startsWith('@') ? (await readFile(password.slice(1), 'utf8')).trim() : password,
  };
}
