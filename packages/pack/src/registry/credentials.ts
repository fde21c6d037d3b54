import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { isRecord } from '../canonical-json.ts';
import { PackError } from '../errors.ts';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/**
 * What `docker login` or `podman login` has kept for a host in `config.json` (`$DOCKER_CONFIG`, else `~/.docker`).
 * Credential helpers are programs, and are not run.
 * @throws {PackError} `pack/registry-auth` for a file that is there and cannot be read as one
 */
export async function dockerCredentials(
  host: string,
  environment: { readonly [name: string]: string | undefined } = process.env,
): Promise<Credentials | undefined> {
  const file = join(environment['DOCKER_CONFIG'] ?? join(homedir(), '.docker'), 'config.json');
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw unusable(file, String(error.code));
  });
  if (text === undefined) return undefined;
  const auths = member(parse(text, file), 'auths');
  const keys = host === 'docker.io' ? ['https://index.docker.io/v1/'] : [host, `https://${host}`, `http://${host}`];
  const entry = keys.map((key) => member(auths, key)).find((found) => found !== undefined);
  const auth = member(entry, 'auth');
  if (typeof auth !== 'string' || auth === '') return undefined;
  const [, username, password] = /^([^:]*):(.*)$/s.exec(Buffer.from(auth, 'base64').toString()) ?? [];
  if (username === undefined || password === undefined)
    throw unusable(file, `the entry of ${host} is not user:password`);
  return { username, password };
}

function parse(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw unusable(file, 'it is not JSON');
  }
}

function member(value: unknown, key: string): unknown {
  return isRecord(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}

const unusable = (file: string, what: string): PackError =>
  new PackError('pack/registry-auth', `${file}: ${what}`, { where: file, hint: 'docker login, or --username' });
