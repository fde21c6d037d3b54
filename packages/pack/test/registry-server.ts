import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

/** What a test lets go wrong. Each is asked for every request; true: it does. */
export interface Faults {
  /** The connection is cut after this many bytes of the answer or, of an upload, before it is answered. */
  cut?: (method: string, path: string) => number | undefined;
  status?: (method: string, path: string) => number | undefined;
  /** What is sent in the place of a blob or manifest. */
  content?: (path: string, bytes: Uint8Array) => Uint8Array;
}

export interface TestRegistry {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly blobs: Map<string, Uint8Array>;
  readonly manifests: Map<string, Uint8Array>;
  /** `METHOD path authorization-scheme`. */
  readonly requests: string[];
  faults: Faults;
  close(): Promise<void>;
}

/** A registry in memory, as small as it can be. `auth`: `user:password` that it wants, by which way. */
export async function startRegistry(auth?: {
  readonly way: 'basic' | 'bearer';
  readonly user: string;
}): Promise<TestRegistry> {
  const uploads = new Map<string, Uint8Array>();
  const registry = { host: '', blobs: new Map(), manifests: new Map(), requests: [] as string[], faults: {} as Faults };
  const server = createServer((request, response) => {
    void handle(request, response).catch(() => response.destroy());
  });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://x');
    const method = request.method ?? '';
    const { authorization = '' } = request.headers;
    registry.requests.push(`${method} ${pathname} ${authorization.split(' ')[0]}`.trim());
    const parts: Uint8Array[] = [];
    for await (const part of request as AsyncIterable<Uint8Array>) parts.push(part);
    const body = new Uint8Array(Buffer.concat(parts));
    const end = (status: number, headers: object = {}, content?: Uint8Array): void => {
      response.writeHead(status, { ...headers }).end(content);
    };
    if (pathname === '/token') return end(isUser(authorization) ? 200 : 401, {}, encode({ token: 't0ken' }));
    if (!isAllowed(authorization)) return end(401, { 'www-authenticate': challenge() }, encode(denied));
    const status = registry.faults.status?.(method, pathname);
    if (status !== undefined) return end(status, {}, encode(denied));
    const cut = registry.faults.cut?.(method, pathname);
    if (cut !== undefined && method !== 'GET') {
      const id = pathname.split('/').at(-1) ?? '';
      if (method === 'PATCH') uploads.set(id, concat(uploads.get(id), body.subarray(0, cut)));
      return void response.destroy();
    }
    const [, what = '', name = ''] = /\/(blobs\/uploads|blobs|manifests)\/([^/]*)$/.exec(pathname) ?? [];
    if (what === 'blobs/uploads') return upload(method, name, searchParams.get('digest'), body, end);
    const store: Map<string, Uint8Array> = what === 'blobs' ? registry.blobs : registry.manifests;
    if (method === 'PUT') {
      store.set(name, body);
      store.set(digestOf(body), body);
      return end(201, { 'docker-content-digest': digestOf(body) });
    }
    const found = store.get(name);
    if (found === undefined) return end(404, {}, encode({ errors: [{ code: 'NAME_UNKNOWN', message: 'not here' }] }));
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const content = (registry.faults.content?.(pathname, found) ?? found).subarray(from);
    const headers = { 'content-length': String(content.length) };
    if (method === 'HEAD') return end(200, headers);
    if (cut === undefined) return end(from > 0 ? 206 : 200, headers, content);
    response.writeHead(from > 0 ? 206 : 200, headers);
    response.write(content.subarray(0, cut), () => setImmediate(() => response.destroy()));
  }

  function upload(
    method: string,
    id: string,
    digest: string | null,
    body: Uint8Array,
    end: (status: number, headers?: object) => void,
  ): void {
    if (method === 'POST') {
      const begun = `u${uploads.size + 1}`;
      uploads.set(begun, new Uint8Array());
      return end(202, { location: `/v2/m/labels/blobs/uploads/${begun}?state=a` });
    }
    const so = uploads.get(id);
    if (so === undefined) return end(404);
    const whole = concat(so, body);
    const headers = { location: `/v2/m/labels/blobs/uploads/${id}`, range: `0-${whole.length - 1}` };
    if (method === 'GET') return end(204, headers);
    uploads.set(id, whole);
    if (method === 'PATCH') return end(202, headers);
    if (digest === null || digestOf(whole) !== digest) return end(400);
    registry.blobs.set(digest, whole);
    return end(201);
  }

  const challenge = (): string =>
    auth?.way === 'basic'
      ? 'Basic realm="test"'
      : `Bearer realm="http://${registry.host}/token",service="test",scope="repository:m/labels:pull,push"`;
  const isUser = (header: string): boolean => header === `Basic ${Buffer.from(auth?.user ?? '').toString('base64')}`;
  const isAllowed = (header: string): boolean =>
    auth === undefined || (auth.way === 'basic' ? isUser(header) : header === 'Bearer t0ken');

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  registry.host = `127.0.0.1:${(server.address() as { port: number }).port}`;
  return Object.assign(registry, { close: () => closed(server) });
}

const denied = { errors: [{ code: 'DENIED', message: 'not you' }] };
const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const concat = (a: Uint8Array | undefined, b: Uint8Array): Uint8Array =>
  new Uint8Array(Buffer.concat([a ?? new Uint8Array(), b]));
const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
