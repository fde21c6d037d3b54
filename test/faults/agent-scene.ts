import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { provisionAgent } from '@flotilla/agent';
import { type Controller, ControllerClient, type RolloutView, startController } from '@flotilla/controller';
import { createPack, generateKey, type PrivateKey, writeGolden, writeKeyPair } from '@flotilla/pack';
import type { State } from '@flotilla/protocol';
import { addOne } from '../../packages/runtime/test/tiny-models.ts';

export interface Scene {
  readonly root: string;
  readonly key: PrivateKey;
  readonly controller: Controller;
  readonly client: ControllerClient;
  /** Provisions a device. @returns its identity folder */
  device(name: string): Promise<string>;
  /** Publishes `y = x + 1` under a version, with what is wrong with it. */
  publish(version: string, wrong?: Wrong): Promise<string>;
  rollOut(version: string, more?: { readonly to?: string; readonly canary?: number }): Promise<RolloutView>;
  /** Waits for its end. */
  ended(id: string): Promise<RolloutView>;
  close(): Promise<void>;
}
export interface Wrong {
  /** Golden outputs are off by so much. */
  readonly golden?: number;
  readonly budgetUs?: number;
  readonly key?: PrivateKey;
  readonly extraBytes?: number;
}

/** A controller with its embedded broker and database, a key that its devices trust, and no device yet. */
export async function startScene(): Promise<Scene> {
  const root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'agent-scene-'));
  const key = generateKey();
  await writeKeyPair(join(root, 'keys'), key);
  const controller = await startController({
    dataDir: join(root, 'controller'),
    mqtt: { listen: '127.0.0.1:0' },
    http: '127.0.0.1:0',
    trustedKeys: [join(root, 'keys')],
    log: () => undefined,
  });
  const token = (await readFile(controller.adminTokenFile, 'utf8')).trim();
  const client = new ControllerClient({ url: controller.httpUrl, token });
  const ended = async (id: string): Promise<RolloutView> => {
    let last = await client.rollout(id);
    for await (const view of client.watch(id)) last = view;
    return last;
  };
  return {
    root,
    key,
    controller,
    client,
    ended,
    async device(name) {
      const identityDir = join(root, 'identities', name);
      await provisionAgent({ controllerUrl: controller.httpUrl, token, board: 'host', identityDir, name });
      return identityDir;
    },
    async publish(version, wrong = {}) {
      const pack = join(root, `${version}.pack`);
      const { digest } = await createPack(pack, contents(version, wrong), { key: wrong.key ?? key });
      await client.publish(pack, 'labels', version);
      return digest;
    },
    rollOut: (version, more = {}) =>
      client.createRollout({
        release: `labels@${version}`,
        canary: 0,
        healthWindowMs: 300,
        stateDeadlineMs: 30_000,
        ...more,
      }),
    async close() {
      await controller.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

function contents(
  version: string,
  { golden = 0, budgetUs = 1e6, extraBytes = 600_000 }: Wrong,
): Parameters<typeof createPack>[1] {
  const row = (a: number, b: number) => ({ dtype: 'float32', dims: [1, 2], data: Float32Array.of(a, b) }) as const;
  const cases = [{ name: 'one', inputs: { x: row(1, 2) }, outputs: { y: row(2 + golden, 3) } }];
  const tolerance = { atol: 1e-4, rtol: 0 };
  return {
    name: 'labels',
    task: 'tensor',
    weights: 'fp32',
    parameters: 1,
    sourceBytes: addOne.length,
    golden: {
      path: 'golden.safetensors',
      tolerance: { x64: tolerance, 'x64-vnni': tolerance, arm64: tolerance, 'arm64-dotprod': tolerance },
    },
    latencyBudgetUs: { '*': budgetUs },
    annotations: { version },
    files: [
      { path: 'model.onnx', role: 'model', source: addOne },
      { path: 'golden.safetensors', role: 'golden', source: writeGolden(cases) },
      { path: 'notes.txt', role: 'doc', source: notes(version, extraBytes) },
    ],
  };
}

/** Some pieces to download, another content for each version. */
function notes(version: string, bytes: number): Uint8Array {
  return new TextEncoder().encode(`${version} `.repeat(Math.ceil(bytes / (version.length + 1)))).subarray(0, bytes);
}

export interface AgentProcess {
  readonly child: ChildProcess;
  readonly output: () => string;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
}

/**
 * An agent in a process of its own.
 * @param killAt ends itself with SIGKILL as soon as it would report this state, or would store that many pieces
 */
export function spawnAgent(
  identityDir: string,
  dataDir: string,
  options: { readonly killAt?: State | number; readonly env?: { readonly [name: string]: string } } = {},
): AgentProcess {
  const script = new URL('agent-process.mjs', import.meta.url).pathname;
  const args = [script, identityDir, dataDir, String(options.killAt ?? '')];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
  const ended = new Promise<number | string>((resolve) =>
    child.once('exit', (code, signal) => resolve(code ?? signal ?? -1)),
  );
  return { child, output: () => output, ended };
}

export async function stopAgent({ child, ended }: AgentProcess): Promise<void> {
  child.kill('SIGTERM');
  await ended;
}
