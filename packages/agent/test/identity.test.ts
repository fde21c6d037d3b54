import { generateKey } from '@flotilla/pack';
import { createServer, type Server } from 'node:http';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { AgentError, agentStatus, type Identity, provisionAgent, readIdentity } from '../src/index.ts';
import { trustOf } from '../src/identity.ts';
import { isLocked, lockFolder } from '../src/lock.ts';

const identity: Identity = {
  device: 'pi-1',
  fleet: 'main',
  board: 'raspberrypi-5',
  brokerUrl: 'mqtt://127.0.0.1:1883',
  secret: 's3cret',
  controllerKey: generateKey().publicKey.pem,
  trustedPackKeys: [generateKey().publicKey.pem],
};
let root: string;
let server: Server | undefined;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'identity-'));
});
afterEach(() => server?.close());
afterAll(() => rm(root, { recursive: true, force: true }));
const folder = (): Promise<string> => mkdtemp(join(root, 'dir-'));

async function controllerThatSays(status: number, body: unknown): Promise<{ url: string; asked: unknown[] }> {
  const asked: unknown[] = [];
  server = createServer((request, response) => {
    let text = '';
    request.on('data', (data: Buffer) => (text += data.toString()));
    request.on('end', () => {
      asked.push([request.method, request.url, request.headers.authorization, JSON.parse(text)]);
      response.writeHead(status).end(typeof body === 'string' ? body : JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return { url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`, asked };
}

test('an identity is asked for, kept with mode 0600, and read again', async () => {
  const { url, asked } = await controllerThatSays(201, identity);
  const identityDir = join(await folder(), 'deep', 'er');
  const made = await provisionAgent({
    controllerUrl: url,
    token: 't',
    board: 'raspberrypi-5',
    identityDir,
    name: 'pi-1',
  });
  expect(made).toEqual(identity);
  expect(asked).toEqual([['POST', '/v1/devices', 'Bearer t', { device: 'pi-1', board: 'raspberrypi-5' }]]);
  expect((await stat(join(identityDir, 'identity.json'))).mode & 0o777).toBe(0o600);
  expect(await readFile(join(identityDir, 'identity.json'), 'utf8')).not.toContain('"t"');
  expect(await readIdentity(identityDir)).toEqual(identity);
  await expect(
    provisionAgent({ controllerUrl: url, token: 't', board: 'raspberrypi-5', identityDir }),
  ).rejects.toMatchObject({ code: 'agent/identity-exists' });
  expect(asked).toHaveLength(1); // the controller was not asked for a device that nobody could use
});

test.each([
  [401, { error: { code: 'x', message: 'no such token' } }, 'agent/provision', 'no such token'],
  [500, 'oops', 'agent/provision', 'HTTP 500'],
  [201, { device: '../x' }, 'agent/identity', 'trustedPackKeys'],
  [201, { ...identity, device: '../x' }, 'agent/identity', 'device'],
  [201, 'not json', 'agent/identity', 'trustedPackKeys'],
])('a controller that answers %i %j: one line, nothing written', async (status, body, code, words) => {
  const { url } = await controllerThatSays(status, body);
  const identityDir = await folder();
  const error = await provisionAgent({ controllerUrl: url, token: 't', board: 'b', identityDir }).catch(
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(AgentError);
  expect(error).toMatchObject({ code, message: expect.stringContaining(words) });
  expect((error as Error).message).not.toContain('\n');
  expect(await readdir(identityDir)).toEqual([]);
});

test('no controller there', async () => {
  const error = provisionAgent({
    controllerUrl: 'http://127.0.0.1:1',
    token: 't',
    board: 'b',
    identityDir: await folder(),
  });
  await expect(error).rejects.toMatchObject({
    code: 'agent/unreachable',
    message: expect.stringContaining('127.0.0.1:1'),
  });
});

test('nobody is asked for an identity that finds no room; an address that is none is told', async () => {
  const { url, asked } = await controllerThatSays(201, identity);
  const identityDir = await folder();
  const options = { controllerUrl: url, token: 't', board: 'b', identityDir };
  await mkdir(join(identityDir, `identity.json.${process.pid}.part`)); // in the place of a disk that is full
  await expect(provisionAgent(options)).rejects.toMatchObject({ code: 'agent/storage' });
  expect(asked).toEqual([]);
  for (const controllerUrl of ['nonsense', 'localhost:8080', 'ftp://x'])
    await expect(provisionAgent({ ...options, identityDir: await folder(), controllerUrl })).rejects.toMatchObject({
      code: 'agent/unreachable',
      hint: 'write http://host:8080',
    });
});

test('identity files that are none, or that others may read', async () => {
  const dir = await folder();
  const file = join(dir, 'identity.json');
  await expect(readIdentity(dir)).rejects.toMatchObject({ code: 'agent/identity', where: file });
  for (const text of ['', 'x', 'null', '[]', '{}', JSON.stringify({ ...identity, secret: 7 })]) {
    await writeFile(file, text, { mode: 0o600 });
    await expect(readIdentity(dir)).rejects.toMatchObject({ code: 'agent/identity' });
  }
  await writeFile(file, JSON.stringify(identity));
  await chmod(file, 0o640);
  await expect(readIdentity(dir)).rejects.toMatchObject({ code: 'agent/identity-mode', hint: `chmod 600 ${file}` });
});

test('a key that is none is refused at the start', () => {
  expect(() => trustOf({ ...identity, controllerKey: 'x' })).toThrow(
    expect.objectContaining({ code: 'agent/identity' }),
  );
});

test('a data folder has one owner; the lock of a dead process, or of one with its number, does not count', async () => {
  const dir = join(await folder(), 'data');
  const unlock = await lockFolder(dir);
  expect(await isLocked(dir)).toBe(true);
  await expect(lockFolder(dir)).rejects.toMatchObject({ code: 'agent/identity-in-use' });
  await unlock();
  expect(await isLocked(dir)).toBe(false);
  for (const stale of ['999999999 1 x\n', `${process.pid} 1 x\n`, '', 'garbage']) {
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, 'agent.lock'), stale);
    const again = await lockFolder(dir);
    expect(await isLocked(dir)).toBe(true);
    await again();
  }
});

test('of twenty that start at once on a stale lock one gets the folder', async () => {
  const dir = await folder();
  await writeFile(join(dir, 'agent.lock'), '999999999 1 x\n');
  const starts = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(dir)));
  expect(starts.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
});

test('no agent ever ran there', async () => {
  await expect(agentStatus(await folder())).rejects.toMatchObject({ code: 'agent/storage' });
});
