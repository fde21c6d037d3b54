import { writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { RuntimeError, type RuntimeErrorCode } from './errors.ts';
import { type LocalSession, openSession } from './local-session.ts';
import { lowerFile } from './lower-file.ts';
import type { Answers, Reply, Request } from './messages.ts';
import { rebuildHere } from './rebuild-model.ts';

// The child that `spawnSession` starts. It answers one request at a time and dies with its parent.

let session: LocalSession | undefined;
let stop = new AbortController();
/** What is done before anybody asks for it. */
let ahead: Promise<void> = Promise.resolve();

const cap = Number(process.argv[2]);
new Worker(new URL('./session-guard.js', import.meta.url), {
  workerData: cap > 0 ? cap : undefined,
  resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 },
}).unref();

// Where memory runs out for the whole machine, this process is to go and not the agent. Linux only.
try {
  writeFileSync('/proc/self/oom_score_adj', '500');
} catch {
  // Not allowed here: the cap still holds.
}

process.on('disconnect', () => process.exit(0));
process.on('message', (request: Request) => {
  if (request.kind === 'stop') stop.abort();
  else void answer(request);
});
send({ kind: 'ready' });

async function answer(request: Request): Promise<void> {
  await ahead;
  try {
    send({ kind: 'done', value: await carryOut(request) });
    if (request.kind === 'decode' && session) ahead = session.readAhead();
  } catch (error) {
    send({
      kind: 'failed',
      code: error instanceof RuntimeError ? error.code : (FAILED[request.kind] ?? 'runtime/run'),
      message: error instanceof Error ? error.message : String(error),
      where: error instanceof RuntimeError ? error.where : undefined,
      hint: error instanceof RuntimeError ? error.hint : undefined,
    });
  }
}

/** What a failure that has no code of this package is called. */
const FAILED: { readonly [K in Request['kind']]?: RuntimeErrorCode } = {
  lower: 'runtime/load',
  rebuild: 'runtime/rebuild',
};

async function carryOut(request: Request): Promise<Answers[keyof Answers]> {
  if (request.kind === 'load') {
    session = await openSession(request.modelPath, request.options);
    const { inputs, outputs, adapters } = session;
    return { inputs, outputs, adapters, loadMs: session.coldStart.loadMs };
  }
  if (request.kind === 'lower') {
    await lowerFile(request.plan, request.folder);
    return null;
  }
  if (request.kind === 'rebuild') {
    await rebuildHere(request.plan);
    return null;
  }
  if (!session) throw new RuntimeError('runtime/closed', 'no model is loaded');
  switch (request.kind) {
    case 'run':
      return session.run(request.feeds, request);
    case 'decode':
      return session.decode(request.step);
    case 'measure': {
      stop = new AbortController();
      const measured = await session.measure(request.feeds, { ...request.options, signal: stop.signal });
      return { ...measured, latency: measured.latency.encode() };
    }
    case 'memory':
      return session.memory();
    case 'close':
      await session.close();
      return null;
    case 'stop':
      return null;
  }
}

function send(reply: Reply): void {
  process.send?.(reply, undefined, undefined, () => {}); // a parent that is gone is not this process's failure
}
