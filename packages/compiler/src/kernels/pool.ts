import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { QuantError } from '@flotilla/quant';
import { type KernelResult, type KernelTask, runKernel } from './kernel.ts';
import { KERNEL_WORKER } from '../kernel-program.ts';
import type { KernelAnswer } from '../kernel-worker.ts';

/** Weights that are converted here before any thread is started: small models are done by then. */
const ALONE = 1 << 20;

/**
 * Worker threads that run kernels, one task each at a time. A task is all there is to know of its result, so the number of
 * threads never shows in it.
 */
export class KernelPool {
  readonly threads: number;
  readonly #free: Helper[] = [];
  readonly #all: Helper[] = [];
  readonly #waiting: (() => void)[] = [];
  readonly #signal: AbortSignal | undefined;
  #places: number;
  #done = 0;

  constructor(threads: number, signal: AbortSignal | undefined) {
    this.threads = threads;
    this.#places = threads;
    this.#signal = signal;
  }

  /**
   * Waits for a free thread, then asks for the task and runs it: what waits holds no weights and no file.
   * @param weights how many it has
   * @throws {QuantError}, what `make` throws, and the signal's reason
   */
  async run(weights: number, make: () => KernelTask): Promise<KernelResult> {
    if (this.#places === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#places--;
    try {
      this.#signal?.throwIfAborted();
      const task = make();
      this.#done += weights;
      if (this.threads > 1 && this.#done > ALONE) return await this.#runThere(task);
      await setImmediate(); // a signal can come between two tasks
      return runKernel(task);
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#places++;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map(({ thread }) => thread.terminate()));
  }

  async #runThere(task: KernelTask): Promise<KernelResult> {
    const worker = this.#free.pop() ?? this.#start();
    const answer = await new Promise<KernelAnswer>((resolve, reject) => {
      worker.settle = { resolve, reject };
      const { weights } = task;
      worker.thread.postMessage(task, weights instanceof Float32Array ? [weights.buffer] : []);
    });
    this.#free.push(worker);
    if ('result' in answer) return answer.result;
    const { code, message } = answer.error;
    throw code === undefined ? new Error(message) : new QuantError(code, message);
  }

  #start(): Helper {
    const thread = new Worker(KERNEL_WORKER, { execArgv: [] });
    const helper: Helper = { thread, settle: undefined };
    thread.on('message', (answer: KernelAnswer) => helper.settle?.resolve(answer));
    thread.on('error', (error) => helper.settle?.reject(error));
    thread.on('exit', (code) => helper.settle?.reject(new Error(`a worker thread ended with code ${code}`)));
    this.#all.push(helper);
    return helper;
  }
}

/** A thread, and who waits for its answer. */
interface Helper {
  readonly thread: Worker;
  settle: { readonly resolve: (answer: KernelAnswer) => void; readonly reject: (error: unknown) => void } | undefined;
}
