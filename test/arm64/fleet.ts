import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { provisionAgent } from '@flotilla/agent';
import { type Controller, ControllerClient, type RolloutView, startController } from '@flotilla/controller';
import { bundle, type Machine } from './machine.ts';

/** A controller in this process and agents on emulated machines. */
export class Fleet {
  readonly client: ControllerClient;
  private readonly folder: string;
  private readonly controller: Controller;
  private readonly token: string;
  private readonly agents: { readonly child: ChildProcess; log: string }[] = [];

  private constructor(folder: string, controller: Controller, token: string) {
    this.folder = folder;
    this.controller = controller;
    this.token = token;
    this.client = new ControllerClient({ url: controller.httpUrl, token });
  }

  static async start(folder: string, trustedKeys: readonly string[]): Promise<Fleet> {
    const controller = await startController({
      dataDir: join(folder, 'controller'),
      mqtt: { listen: '127.0.0.1:0' },
      http: '127.0.0.1:0',
      trustedKeys,
    });
    const token = (await readFile(controller.adminTokenFile, 'utf8')).trim();
    return new Fleet(folder, controller, token);
  }

  /** Provisions a device and starts its agent on the machine. */
  async add(machine: Machine, device: string, board: string): Promise<void> {
    const identityDir = join(this.folder, device, 'identity');
    const { httpUrl: controllerUrl } = this.controller;
    await provisionAgent({ controllerUrl, token: this.token, board, identityDir, name: device });
    const child = spawn(
      machine.node,
      [await bundle('test/arm64/agent.ts'), join(this.folder, device, 'data'), identityDir],
      {
        env: machine.env,
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    );
    const agent = { child, log: '' };
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (agent.log += `${device}: ${chunk.toString()}`));
    this.agents.push(agent);
  }

  /** To all devices at once; resolves when it has ended. @throws if it cannot be read any more */
  async rollOut(pack: string, name: string, version: string): Promise<RolloutView> {
    await this.client.publish(pack, name, version);
    const { id } = await this.client.createRollout({
      release: `${name}@${version}`,
      canary: this.agents.length,
      healthWindowMs: 1000,
      stateDeadlineMs: 240_000,
    });
    let last: RolloutView | undefined;
    for await (const view of this.client.watch(id)) last = view;
    if (last === undefined) throw new Error(`rollout ${id} was never seen`);
    return last;
  }

  /** What the agents said: for a failed expectation's message. */
  get log(): string {
    return this.agents.map(({ log }) => log.slice(-2000)).join('\n');
  }

  async stop(): Promise<void> {
    await Promise.all(this.agents.map(({ child }) => end(child)));
    await this.controller.close();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.stdin?.end();
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await gone;
  clearTimeout(timer);
}
