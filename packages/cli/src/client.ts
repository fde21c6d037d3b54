import { ControllerClient } from '@flotilla/controller';
import { readToken } from './token.ts';

/** What a command that talks to the controller takes: spread `connectionOptions()` into its builder. */
export interface Connection {
  readonly controller: string;
  readonly token: string | undefined;
}

export async function connect({ controller, token }: Connection): Promise<ControllerClient> {
  return new ControllerClient({ url: controller, token: await readToken(token) });
}
