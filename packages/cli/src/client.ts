import { ControllerClient } from '@flotilla/controller';
import type { Argv } from 'yargs';
import { controllerOption, tokenOption } from './options.ts';
import { readToken } from './token.ts';

/** What a command that talks to the controller takes. */
export interface Connection {
  readonly controller: string;
  readonly token: string | undefined;
}

/** Adds `--controller` and `--token`. */
export function withConnection<T>(args: Argv<T>) {
  return args.option('controller', controllerOption()).option('token', tokenOption());
}

export async function connect({ controller, token }: Connection): Promise<ControllerClient> {
  return new ControllerClient({ url: controller, token: await readToken(token) });
}
