import { PackError } from '../errors.ts';
import type { Credentials } from './credentials.ts';
import { readSmallBody } from './body.ts';

/** `WWW-Authenticate`, RFC 9110 §11.6.1, as far as registries use it: one scheme with quoted parameters. */
export interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  readonly parameters: ReadonlyMap<string, string>;
}

export function parseChallenge(header: string | null): Challenge | undefined {
  const [, scheme = '', rest = ''] = /^\s*(basic|bearer)\b(.*)$/is.exec(header ?? '') ?? [];
  if (scheme === '') return undefined;
  const pairs = [...rest.matchAll(/([a-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))/gi)];
  const parameters = new Map(pairs.map(([, key = '', quoted, plain]) => [key.toLowerCase(), quoted ?? plain ?? '']));
  return { scheme: scheme.toLowerCase() as Challenge['scheme'], parameters };
}

/**
 * The `Authorization` that answers a challenge: the credentials themselves, or a token for which they are shown to the
 * server that the registry names. Without credentials a token is asked for too: public images need one.
 * @see distribution/distribution, docs/spec/auth/token.md
 * @throws {PackError} `pack/registry-auth`
 */
export async function answerChallenge(
  { scheme, parameters }: Challenge,
  registry: string,
  credentials: Credentials | undefined,
  fetchIt: (url: URL, init: RequestInit) => Promise<Response>,
): Promise<string> {
  const basic =
    credentials && `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
  if (scheme === 'basic') {
    if (basic === undefined) throw refused(registry, 'it wants a user and a password');
    return basic;
  }
  const realm = toUrl(parameters.get('realm') ?? '');
  // A registry behind TLS must not make us show the password in the clear.
  const isSafe = realm?.protocol === 'https:' || (realm?.protocol === 'http:' && registry.startsWith('http:'));
  if (realm === undefined || !isSafe) throw refused(registry, 'it names no server for tokens that could be asked');
  for (const key of ['service', 'scope']) {
    const value = parameters.get(key);
    if (value !== undefined) realm.searchParams.set(key, value);
  }
  const response = await fetchIt(realm, { headers: basic === undefined ? {} : { authorization: basic } });
  const text = await readSmallBody(response);
  if (!response.ok) throw refused(realm.host, `it gives no token: HTTP ${response.status}`);
  const token = tokenOf(text);
  if (token === undefined) throw refused(realm.host, 'it answers without a token');
  return `Bearer ${token}`;
}

function tokenOf(text: string): string | undefined {
  try {
    const { token, access_token } = JSON.parse(text) as { token?: unknown; access_token?: unknown };
    const found = token ?? access_token;
    return typeof found === 'string' && /^[\x21-\x7e]+$/.test(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

function toUrl(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

const refused = (where: string, what: string): PackError =>
  new PackError('pack/registry-auth', `${where}: ${what}`, {
    where,
    hint: '--username and --password @FILE, FLOTILLA_REGISTRY_USERNAME and _PASSWORD, or docker login',
  });
