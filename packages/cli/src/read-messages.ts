import type { ChatMessage } from '@flotilla/runtime';
import { CliError } from './errors.ts';
import { readJson } from './read-json.ts';

/** A conversation: a list of `{ "role", "content" }`. @throws {CliError} `cli/file` for anything else */
export async function readMessages(path: string): Promise<readonly ChatMessage[]> {
  const list = await readJson('--messages', path);
  if (Array.isArray(list) && list.length > 0 && list.every((message) => isMessage(message))) return list;
  throw new CliError('cli/file', `the --messages file ${path} is no list of messages`, {
    where: path,
    hint: 'write [{ "role": "user", "content": "…" }]',
  });
}

function isMessage(message: unknown): message is ChatMessage {
  if (typeof message !== 'object' || message === null || !('role' in message && 'content' in message)) return false;
  return typeof message.role === 'string' && typeof message.content === 'string';
}
