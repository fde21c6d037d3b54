import { mkdtemp, readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateKey, writeKeyPair } from '@flotilla/pack';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Controller, ControllerClient, startController } from '../src/index.ts';
import { databaseTemplate, dataDir } from './support/data-dir.ts';

let controller: Controller;
let admin: ControllerClient;
let token: string;
const log: string[] = [];

beforeAll(async () => {
  const keys = await writeKeyPair(await mkdtemp(join(tmpdir(), 'flotilla-http-')), generateKey());
  controller = await startController({
    databaseTemplate,
    dataDir: await dataDir(),
    mqtt: { listen: '127.0.0.1:0' },
    http: '127.0.0.1:0',
    trustedKeys: [keys.publicFile],
    maxPackBytes: 1_000_000,
    bodyTimeoutMs: 1000,
    log: (line) => log.push(line),
  });
  token = (await readFile(controller.adminTokenFile, 'utf8')).trim();
  admin = new ControllerClient({ url: controller.httpUrl, token });
});

afterAll(async () => {
  await controller.close();
  expect(log).toEqual([]);
});

interface Shown {
  readonly status: number;
  readonly body: { readonly error?: { readonly code: string; readonly message: string } };
}

async function send(
  method: string,
  path: string,
  init: RequestInit = {},
  as: string | undefined = token,
): Promise<Shown> {
  const headers = {
    'content-type': 'application/json',
    ...(as === undefined ? {} : { authorization: `Bearer ${as}` }),
    ...(init.headers as Record<string, string> | undefined),
  };
  const response = await fetch(controller.httpUrl + path, { ...init, method, headers });
  const text = await response.text();
  expect(text).not.toMatch(/\n\s+at |node_modules|\/src\/|select |insert /); // no stack, no query
  return { status: response.status, body: JSON.parse(text) as Shown['body'] };
}

const post = (path: string, body: unknown, as?: string): Promise<Shown> =>
  send('POST', path, { body: typeof body === 'string' ? body : JSON.stringify(body) }, as);

/** Bytes straight into a socket; resolves with all that came back once the server hangs up. */
function raw(text: string, then?: (socket: Socket) => void): Promise<string> {
  const { hostname, port } = new URL(controller.httpUrl);
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(Number(port), hostname, () => {
      socket.write(text);
      then?.(socket);
    });
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(answer));
  });
}

describe('#56 who may do what', () => {
  test.each(['', 'Bearer', 'Bearer ', 'Bearer nonsense', 'Basic YTpi', `Bearer${'x'.repeat(100)}`])(
    '401 with the header %j',
    async (authorization) => {
      const response = await fetch(`${controller.httpUrl}/v1/devices`, { headers: { authorization } });
      expect(response.status).toBe(401);
      expect(await response.json()).toMatchObject({
        error: { code: 'controller/unauthorized', hint: expect.any(String) },
      });
    },
  );

  test('403 for what a role does not hold', async () => {
    const read = (await admin.createToken('read', 'dashboard')).token;
    const provision = (await admin.createToken('provision', 'factory')).token;
    expect((await send('GET', '/v1/devices', {}, read)).status).toBe(200);
    expect((await post('/v1/devices', { board: 'x' }, read)).status).toBe(403);
    expect((await post('/v1/tokens', { role: 'admin', label: 'x' }, read)).status).toBe(403);
    expect((await post('/v1/devices', { board: 'x' }, provision)).status).toBe(201);
    expect((await send('GET', '/v1/devices', {}, provision)).status).toBe(403);
    expect((await post('/v1/tokens', { role: 'admin', label: 'x' }, provision)).status).toBe(403);
  });

  test('only /healthz needs no token', async () => {
    expect(await (await fetch(`${controller.httpUrl}/healthz`)).json()).toEqual({ ok: true });
  });

  test('a web page elsewhere gets nothing: no CORS, no cookies, and JSON must say that it is JSON', async () => {
    const preflight = await fetch(`${controller.httpUrl}/v1/devices`, {
      method: 'OPTIONS',
      headers: { origin: 'http://evil' },
    });
    expect(preflight.headers.get('access-control-allow-origin')).toBeNull();
    const form = await send('POST', '/v1/devices', {
      body: '{"board":"x"}',
      headers: { 'content-type': 'text/plain' },
    });
    expect(form).toMatchObject({ status: 400, body: { error: { code: 'controller/request' } } });
  });
});

describe('#56 what is asked for', () => {
  test.each([
    '/v1/nothing',
    '/v1/devices/none',
    '/v1/devices/%2e%2e%2f%2e%2e%2fetc%2fpasswd',
    '/v1/devices/__proto__',
    '/v1/devices/constructor/telemetry',
    '/v1/packs/..%2f..%2fkeys%2fflotilla.key',
    '/v1/rollouts/%00',
    "/v1/rollouts/' or 1=1",
    '/..%2f..%2fetc/passwd',
  ])('404 for %s', async (path) => {
    expect(await send('GET', path)).toMatchObject({ status: 404, body: { error: { code: 'controller/not-found' } } });
  });

  test.each<[string, string, unknown]>([
    ['no JSON', '/v1/devices', '{"board":'],
    ['no object', '/v1/devices', []],
    ['a missing key', '/v1/devices', {}],
    ['a misspelt key', '/v1/devices', { board: 'x', tag: ['y'] }],
    ['a prototype', '/v1/devices', '{"board":"x","__proto__":{"role":"admin"}}'],
    ['an id that cannot be one', '/v1/devices', { board: 'x', device: '../x' }],
    ['a digest that is none', '/v1/releases', { name: 'a', version: '1', digest: 'sha256:zz' }],
    ['a release without a version', '/v1/rollouts', { release: 'labels' }],
    ['a deadline of 0', '/v1/rollouts', { release: 'a@1', stateDeadlineMs: 0 }],
    ['a name with a NUL', '/v1/devices', { board: 'x', name: 'a\u0000b' }],
    ['half a canary', '/v1/rollouts', { release: 'a@1', canary: 0.5 }],
  ])('400 for %s', async (_, path, body) => {
    expect(await post(path, body)).toMatchObject({ status: 400, body: { error: { code: 'controller/request' } } });
    expect(({} as { role?: unknown }).role).toBeUndefined();
  });

  test('409 for a device that is there', async () => {
    await admin.provision({ board: 'x', device: 'twice' });
    expect(await post('/v1/devices', { board: 'x', device: 'twice' })).toMatchObject({ status: 409 });
  });

  test('names with SQL in them are names', async () => {
    const name = "x'; drop table devices; --";
    const { device } = await admin.provision({ board: name, name, tags: [name] });
    expect(await admin.device(device)).toMatchObject({ name, board: name, tags: [name] });
  });
});

describe('#56 how much and how slowly', () => {
  test('413 for 10 MB of JSON, declared or not', async () => {
    expect((await post('/v1/devices', `{"board":"${'x'.repeat(10e6)}"}`)).status).toBe(413);
    const endless = await raw(
      `POST /v1/devices HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
      (socket) => {
        for (let chunk = 0; chunk < 20; chunk++) socket.write(`2000\r\n${'x'.repeat(0x2000)}\r\n`);
      },
    );
    expect(endless).toMatch(/^HTTP\/1\.1 413 /);
  });

  test('413 for a pack over the limit', async () => {
    const init = { body: new Uint8Array(1_200_000), headers: { 'content-type': 'application/x-tar' } };
    expect(await send('POST', '/v1/packs', init)).toMatchObject({
      status: 413,
      body: { error: { code: 'controller/too-large' } },
    });
  });

  test('408 for a body, a pack or headers that stand still', async () => {
    const head = (path: string) =>
      `POST ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"board`;
    const answers = await Promise.all([
      raw(head('/v1/devices'), (socket) => setTimeout(() => socket.destroySoon(), 4000).unref()),
      raw(head('/v1/packs'), (socket) => setTimeout(() => socket.destroySoon(), 4000).unref()),
      raw('GET /v1/devices HTTP/1.1\r\nhost: x\r\n', (socket) => {
        const drip = setInterval(() => socket.write('x: y\r\n'), 300);
        socket.on('close', () => clearInterval(drip));
      }),
    ]);
    for (const answer of answers) {
      expect(answer).toMatch(/^HTTP\/1\.1 408 /);
      expect(answer).toContain('controller/timeout');
    }
  });

  test('400 for what is no HTTP, and headers of 1 MB', async () => {
    expect(await raw('\u0010\u0001nonsense\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 .*controller\/request/s);
    expect(await raw(`GET / HTTP/1.1\r\nx: ${'y'.repeat(1e6)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 .*controller\/too-large/s,
    );
  });
});

describe('events', () => {
  test('what happened since an event, then what happens', async () => {
    const ended = new AbortController();
    await admin.provision({ board: 'x', device: 'told-1' });
    const seen: string[] = [];
    for await (const event of admin.events({ after: 0, signal: ended.signal })) {
      seen.push(`${event.kind} ${event.device}`);
      if (event.device === 'told-1') await admin.provision({ board: 'x', device: 'told-2' });
      if (event.device === 'told-2') break;
    }
    ended.abort();
    expect(seen.slice(-2)).toEqual(['device.provisioned told-1', 'device.provisioned told-2']);
  });

  test('an id that is none', async () => {
    expect((await send('GET', '/v1/events?after=x')).status).toBe(400);
  });
});

test('a controller that is not there is one clear line', async () => {
  const nobody = new ControllerClient({ url: 'http://127.0.0.1:2', token });
  await expect(nobody.devices()).rejects.toMatchObject({
    code: 'controller/unreachable',
    message: 'http://127.0.0.1:2: ECONNREFUSED',
  });
});
