import { PackError } from '../errors.ts';
import { readSmallBody } from './body.ts';
import { answerChallenge, parseChallenge } from './challenge.ts';
import { type Credentials, dockerCredentials } from './credentials.ts';
import type { Reference } from './reference.ts';

export interface RegistryOptions {
  /** Default: what `docker login` keeps for the host; else none. */
  readonly credentials?: Credentials | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Before the first of three more tries; each next pause is twice as long. Default 250. */
  readonly retryPauseMs?: number | undefined;
  /** Bytes done of all, now and then. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface RequestOptions {
  readonly headers?: { readonly [name: string]: string } | undefined;
  readonly body?: Uint8Array | undefined;
  /** Statuses that are answers, not failures. */
  readonly accept: readonly number[];
}

const ATTEMPTS = 4;

/** One repository of a registry over HTTP. @see OCI distribution-spec 1.1 */
export class RegistryClient {
  readonly reference: Reference;
  readonly signal: AbortSignal | undefined;
  private readonly credentials: Credentials | undefined;
  private readonly pauseMs: number;
  private authorization: string | undefined;

  private constructor(reference: Reference, credentials: Credentials | undefined, options: RegistryOptions) {
    this.reference = reference;
    this.credentials = credentials;
    this.signal = options.signal;
    this.pauseMs = options.retryPauseMs ?? 250;
  }

  static async open(reference: Reference, options: RegistryOptions = {}): Promise<RegistryClient> {
    const credentials = options.credentials ?? (await dockerCredentials(reference.host));
    return new RegistryClient(reference, credentials, options);
  }

  /** `/v2/<name>/…` */
  url(path: string): URL {
    return new URL(`/v2/${this.reference.name}/${path}`, this.reference.origin);
  }

  /**
   * One request, again with a token where one is wanted.
   * @throws {PackError} `pack/registry-missing` (404), `pack/registry-auth` (401, 403), `pack/unreachable` (no answer, or
   *   429 or 5xx), `pack/registry` (any other status that was not asked for)
   */
  async send(method: string, url: URL, { headers = {}, body, accept }: RequestOptions): Promise<Response> {
    const once = (): Promise<Response> =>
      this.fetch(url, { method, headers: { ...headers, ...this.authorizationFor(url) }, ...(body && { body }) });
    let response = await once();
    const challenge = response.status === 401 ? parseChallenge(response.headers.get('www-authenticate')) : undefined;
    if (challenge !== undefined && url.origin === this.reference.origin) {
      await response.body?.cancel();
      const { origin } = this.reference;
      this.authorization = await answerChallenge(challenge, origin, this.credentials, (realm, init) =>
        this.fetch(realm, init),
      );
      response = await once();
    }
    if (accept.includes(response.status)) return response;
    throw await failure(method, url, response);
  }

  /** Tries again, with growing pauses, what failed because nobody answered. @param attempt gets the number of failures */
  async persist<T>(attempt: (failures: number) => Promise<T>): Promise<T> {
    for (let failures = 0; ; failures++) {
      try {
        return await attempt(failures);
      } catch (error) {
        const mayPass = error instanceof PackError && error.code === 'pack/unreachable';
        if (!mayPass || failures + 1 >= ATTEMPTS) throw error;
        await new Promise((resolve) => setTimeout(resolve, this.pauseMs * 2 ** failures));
        this.signal?.throwIfAborted();
      }
    }
  }

  /** @throws {PackError} `pack/unreachable` */
  unreachable(cause: unknown): PackError {
    this.signal?.throwIfAborted();
    const inner = cause instanceof Error ? (cause.cause ?? cause) : cause;
    const { code, message } = inner as { readonly code?: string; readonly message?: string };
    const { origin } = this.reference;
    return new PackError('pack/unreachable', `${origin}: ${code ?? message ?? 'no connection'}`, {
      where: origin,
      cause,
    });
  }

  /** Only for the registry itself: an upload or a blob may lie with somebody else, who gets no token of ours. */
  private authorizationFor(url: URL): { readonly authorization?: string } {
    const { authorization } = this;
    return authorization === undefined || url.origin !== this.reference.origin ? {} : { authorization };
  }

  private async fetch(url: URL, init: RequestInit): Promise<Response> {
    try {
      return await fetch(url, this.signal === undefined ? init : { ...init, signal: this.signal });
    } catch (cause) {
      throw this.unreachable(cause);
    }
  }
}

async function failure(method: string, url: URL, response: Response): Promise<PackError> {
  const said = await readSmallBody(response).then(words, () => '');
  const { status } = response;
  const what = `${url.host}: ${method} ${url.pathname}: HTTP ${status}${said}`;
  const options = { where: url.host };
  if (status === 404) return new PackError('pack/registry-missing', what, options);
  if (status === 401 || status === 403)
    return new PackError('pack/registry-auth', what, {
      ...options,
      hint: '--username and --password @FILE, or docker login',
    });
  if (status === 429 || status >= 500) return new PackError('pack/unreachable', what, options);
  return new PackError('pack/registry', what, options);
}

/** The registry's own words on what is wrong. @see OCI distribution-spec 1.1, "Error Codes" */
function words(body: string): string {
  try {
    const { errors } = JSON.parse(body) as {
      readonly errors?: readonly { readonly code?: string; readonly message?: string }[];
    };
    const [first] = errors ?? [];
    return first === undefined ? '' : ` (${first.code ?? ''}: ${(first.message ?? '').slice(0, 200)})`;
  } catch {
    return '';
  }
}
