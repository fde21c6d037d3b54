import { readFile } from 'node:fs/promises';
import { CliError } from './errors.ts';

/** A token as given: itself, or `@FILE` that holds it. @throws {CliError} `cli/usage` where there is none */
export async function readToken(given: string | undefined): Promise<string> {
  if (given === undefined || given === '')
    throw new CliError('cli/usage', 'no token for the controller', {
      hint: 'give --token @DIR/admin.token, set FLOTILLA_TOKEN, or put it into flotilla.yaml',
    });
  return given.startsWith('@') ? (await readFile(given.slice(1), 'utf8')).trim() : given;
}
