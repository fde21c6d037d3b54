import { parentPort } from 'node:worker_threads';
import { QuantError } from '@flotilla/quant';
import { type KernelResult, type KernelTask, runKernel } from './kernels/kernel.ts';

/** What a worker answers: a result, or an error in plain words (a class does not survive the way). */
export type KernelAnswer =
  | { readonly result: KernelResult }
  | { readonly error: { readonly code: QuantError['code'] | undefined; readonly message: string } };

parentPort?.on('message', (task: KernelTask) => {
  const answer = answerTo(task);
  const buffers = 'result' in answer ? answer.result.map(({ buffer }) => buffer as ArrayBuffer) : [];
  parentPort?.postMessage(answer, buffers);
});

function answerTo(task: KernelTask): KernelAnswer {
  try {
    return { result: runKernel(task) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { error: { code: error instanceof QuantError ? error.code : undefined, message } };
  }
}
