import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

export interface ProcessOptions {
  readonly dataDir: string;
  readonly databaseTemplate: string;
  readonly mqtt: string;
  readonly http: string;
  readonly trustedKey: string;
}

const script = `
const { startController } = await import(process.argv[1]);
const { mqtt, http, trustedKey, ...options } = JSON.parse(process.argv[2]);
const { httpUrl } = await startController({ ...options, mqtt: { listen: mqtt }, http, trustedKeys: [trustedKey] });
console.log(httpUrl);
`;

/** A real controller in a process of its own, built code, that can be killed. */
export class ControllerProcess {
  private readonly child: ChildProcess;
  readonly ready: Promise<string>;
  readonly exited: Promise<void>;

  constructor(options: ProcessOptions) {
    const entry = new URL('../../dist/index.js', import.meta.url).href;
    const args = ['--input-type=module', '-e', script, entry, JSON.stringify(options)];
    this.child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'] },
    });
    this.exited = new Promise((resolve) => this.child.once('exit', () => resolve()));
    this.ready = new Promise((resolve, reject) => {
      if (this.child.stdout !== null) createInterface({ input: this.child.stdout }).once('line', resolve);
      this.child.once('exit', () => reject(new Error('the controller ended')));
    });
    this.ready.catch(() => undefined);
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}

/** A port that was free a moment ago: a controller that is killed must come back to the same one. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
