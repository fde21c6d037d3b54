import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compile } from '@flotilla/compiler';
import { BIG_LLAMA, randomWeights } from '../../models/random-llama.ts';
import { root } from '../../tiers/run.ts';
import { writeGenaiFolder } from '../peers/genai-folder.ts';
import { writeGguf } from '../peers/gguf.ts';

/** What a peer is asked: to read tokens into an empty cache, and to generate. */
export interface Timed {
  readonly prefillMs: number;
  readonly stepMs: readonly number[];
}

export interface Peer {
  readonly name: string;
  ask(ids: readonly number[], steps: number): Promise<Timed>;
  privateBytes(): Promise<number | null>;
  close(): void;
}

/** Where a peer cannot be had, why. */
export type PeerOrReason = Peer | { readonly name: string; readonly skipped: string };

const NODE_LLAMA_CPP = 'node-llama-cpp@3.21.1';
const GENAI = 'onnxruntime-genai==0.18.0';
const scripts = join(root, 'test', 'bench', 'peers');

/** transformers.js on the fp32 files and on our 4-bit folder, onnxruntime-genai and llama.cpp (Q4_0) on the same
 * weights; one thread each. */
export async function openPeers(
  folder: string,
  fp32: string,
  say: (line: string) => void,
): Promise<readonly PeerOrReason[]> {
  const peers: PeerOrReason[] = [];
  const open = async (name: string, make: () => Promise<Peer>) => {
    say(`${name} …`);
    peers.push(
      await make().catch((error: unknown) => ({
        name,
        skipped: (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? '',
      })),
    );
  };
  await open('transformers.js fp32', () => startPeer('transformers.js fp32', 'transformers-js.mjs', fp32, root));
  await open('transformers.js q4', async () => {
    const q4 = join(folder, 'transformers-q4');
    if (!(await exists(q4)))
      await compile(fp32, q4, {
        weights: 'int4',
        method: 'rtn',
        block: 32,
        layout: 'transformers',
        latencySeconds: 0,
        boards: ['host'],
      });
    return startPeer('transformers.js q4', 'transformers-js.mjs', q4, root);
  });
  await open('onnxruntime-genai q4', async () => {
    const home = join(folder, 'genai');
    const model = join(home, 'model');
    if (!(await exists(join(model, 'genai_config.json')))) await writeGenaiFolder(fp32, model);
    const python = installPython(home, GENAI);
    return startPeer('onnxruntime-genai q4', 'genai.py', model, home, python);
  });
  await open('llama.cpp Q4_0', async () => {
    const home = join(folder, 'llama-cpp');
    const gguf = join(home, 'model.gguf');
    if (!(await exists(gguf))) {
      await mkdir(home, { recursive: true });
      await writeGguf(gguf, BIG_LLAMA, randomWeights(), join(fp32, 'tokenizer.json'));
    }
    await install(home, NODE_LLAMA_CPP);
    return startPeer('llama.cpp Q4_0', 'llama-cpp.mjs', gguf, home);
  });
  return peers;
}

/** Outside of the repository, without scripts: the binaries are packages of their own. */
async function install(home: string, what: string): Promise<void> {
  if (await exists(join(home, 'node_modules'))) return;
  await writeFile(join(home, 'package.json'), '{ "private": true }');
  const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', what];
  const { status, stderr } = spawnSync('npm', args, { cwd: home, encoding: 'utf8' });
  if (status !== 0) throw new Error(`npm install ${what}: ${stderr.trim().split('\n').at(-1)}`);
}

/** The interpreter of an environment in `home` that holds the package. */
function installPython(home: string, what: string): string {
  const python = join(home, 'venv', 'bin', 'python');
  const run = (command: string, args: readonly string[]) => {
    const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
    if (status !== 0)
      throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim().split('\n').at(-1)}`);
  };
  if (existsSync(python)) return python;
  run('python3', ['-m', 'venv', join(home, 'venv')]);
  run(python, ['-m', 'pip', 'install', '--quiet', what]);
  return python;
}

async function startPeer(
  name: string,
  script: string,
  model: string,
  cwd: string,
  program = process.execPath,
): Promise<Peer> {
  const child = spawn(program, [join(scripts, script), model], { cwd, stdio: ['pipe', 'pipe', 'pipe'] });
  let told = '';
  child.stderr.on('data', (chunk: Buffer) => (told = `${told}${chunk.toString()}`.slice(-500)));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done === true) throw new Error(`it ended: ${told.trim().split('\n').at(-1) ?? ''}`);
      // Some print more than what they are asked for.
      if (value.startsWith('{')) return JSON.parse(value);
    }
  };
  await next();
  return {
    name,
    async ask(ids, steps) {
      child.stdin.write(`${JSON.stringify({ ids, steps })}\n`);
      return (await next()) as Timed;
    },
    privateBytes: () => privateBytes(child),
    close: () => void child.stdin.end(),
  };
}

async function privateBytes({ pid }: ChildProcess): Promise<number | null> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
  const found = /^Private_Dirty:\s+(\d+) kB$/m.exec(rollup)?.[1];
  return found === undefined ? null : Number(found) * 1024;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
