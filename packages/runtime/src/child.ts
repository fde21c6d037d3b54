import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { RuntimeError } from './errors.ts';
import { type Answers, MEMORY_MARK, type Reply, type Request } from './messages.ts';

/** Node runs built files: from `src` in a test as from `dist`. */
const PROGRAM = fileURLToPath(new URL('../dist/session-process.js', import.meta.url));
/** Of a child's stderr, what a failure may quote. */
const STDERR_TAIL = 4096;

interface Pending {
  readonly kind: Request['kind'] | 'start';
  readonly resolve: (value: Answers[keyof Answers]) => void;
  readonly reject: (error: unknown) => void;
}

/** One child process, and at most one request under way. */
export class Child {
  private readonly process: ChildProcess;
  private pending: Pending | undefined;
  private stderr = '';
  /** Why it was ended from here, or how it died: what every later request is told. */
  private fate: Error | undefined;
  private readonly gone: Promise<void>;

  constructor(memoryCapBytes: number | undefined) {
    const [command, ...args] = nodeCommand();
    this.process = fork(PROGRAM, [String(memoryCapBytes ?? 0)], {
      execPath: command,
      execArgv: args,
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, NODE_OPTIONS: '' }, // a debugger's or a test runner's options are not the child's
    });
    this.process.on('message', (reply: Reply) => this.take(reply));
    this.process.stderr?.on('data', (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(-STDERR_TAIL);
    });
    this.gone = new Promise((resolve) => {
      this.process.once('error', (cause) => {
        this.die(new RuntimeError('runtime/crashed', `the model's process cannot start: ${cause.message}`, { cause }));
        if (this.process.pid === undefined) resolve();
      });
      this.process.once('close', (code, signal) => {
        this.die(this.deathOf(code, signal));
        resolve();
      });
    });
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  get alive(): boolean {
    return this.fate === undefined;
  }

  /** Resolves with the child's first message. */
  started(timeoutMs: number, signal?: AbortSignal): Promise<unknown> {
    return this.wait('start', timeoutMs, signal, undefined);
  }

  /** @throws {RuntimeError} what the child reports, or how it died; else `signal`'s reason */
  async ask<R extends Request>(request: R, timeoutMs: number, signal?: AbortSignal): Promise<Answers[R['kind']]> {
    return (await this.wait(request.kind, timeoutMs, signal, request)) as Answers[R['kind']];
  }

  /** Beside a request that is under way. */
  tell(request: Request): void {
    if (this.alive && this.process.connected) this.process.send(request, () => {});
  }

  /** Ends the process at once; whoever waits is told `why`, when it is gone. */
  kill(why: Error): void {
    this.fate ??= why;
    this.process.kill('SIGKILL');
  }

  async ended(): Promise<void> {
    await this.gone;
  }

  private async wait(
    kind: Pending['kind'],
    timeoutMs: number,
    signal: AbortSignal | undefined,
    request: Request | undefined,
  ): Promise<Answers[keyof Answers]> {
    if (this.fate) throw this.fate;
    signal?.throwIfAborted();
    // Native code cannot be interrupted: the process is what can be.
    const abort = () => this.kill(asError(signal?.reason));
    signal?.addEventListener('abort', abort, { once: true });
    const timer = setTimeout(() => this.kill(timeoutError(kind, timeoutMs)), timeoutMs);
    try {
      return await new Promise((resolve, reject) => {
        this.pending = { kind, resolve, reject };
        if (request) this.process.send(request, (error) => error && this.kill(this.sendError(error)));
      });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }

  private take(reply: Reply): void {
    const { pending } = this;
    this.pending = undefined;
    if (!pending) return;
    if (reply.kind === 'ready') pending.resolve(null);
    else if (reply.kind === 'done') pending.resolve(reply.value);
    else pending.reject(new RuntimeError(reply.code, reply.message, { where: reply.where, hint: reply.hint }));
  }

  private die(why: Error): void {
    this.fate ??= why;
    const { pending } = this;
    this.pending = undefined;
    pending?.reject(this.fate);
  }

  private deathOf(code: number | null, signal: NodeJS.Signals | null): RuntimeError {
    const mark = this.stderr.lastIndexOf(MEMORY_MARK);
    if (mark >= 0) {
      const rss = Number.parseInt(this.stderr.slice(mark + MEMORY_MARK.length), 10);
      return new RuntimeError('runtime/memory', `the model's process grew to ${rss} bytes during ${this.doing()}`, {
        hint: 'raise memoryCapBytes, or take a smaller model or input',
      });
    }
    const last = this.stderr.trim().split('\n').at(-1)?.slice(0, 300);
    const how = signal ?? `exit code ${code}`;
    return new RuntimeError(
      'runtime/crashed',
      `the model's process died (${how}) during ${this.doing()}${last ? `: ${last}` : ''}`,
    );
  }

  private sendError(cause: Error): RuntimeError {
    return new RuntimeError('runtime/crashed', `the model's process does not listen: ${cause.message}`, { cause });
  }

  private doing(): string {
    return this.pending?.kind ?? 'rest';
  }
}

function timeoutError(kind: string, timeoutMs: number): RuntimeError {
  return new RuntimeError('runtime/timeout', `${kind} took longer than ${timeoutMs} ms`, {
    hint: 'raise timeoutMs if the model is that slow',
  });
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}

/** `FLOTILLA_NODE` starts Node through something else, word by word: an emulator, a wrapper. */
function nodeCommand(): readonly [string, ...string[]] {
  const [command, ...args] = (process.env['FLOTILLA_NODE'] ?? '').split(' ').filter(Boolean);
  return command === undefined ? [process.execPath] : [command, ...args];
}
