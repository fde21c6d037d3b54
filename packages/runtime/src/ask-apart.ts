import { Child } from './child.ts';
import { RuntimeError } from './errors.ts';
import type { Request } from './messages.ts';

/** How heavy work is done in a process of its own. */
export interface ApartOptions {
  /** Default true; false: in this process. */
  readonly isolate?: boolean | undefined;
  /** Default 60 s. */
  readonly loadTimeoutMs?: number | undefined;
  readonly memoryCapBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * One request to a child process that lives no longer: a damaged or hostile model is parsed, and its weights rewritten,
 * where neither can hold up this process.
 * @throws {RuntimeError} what the child reports, or how it died; else the signal's reason
 */
export async function askApart(request: Request, options: ApartOptions): Promise<void> {
  const { loadTimeoutMs = 60_000, memoryCapBytes, signal } = options;
  const child = new Child(memoryCapBytes);
  try {
    await child.started(loadTimeoutMs, signal);
    await child.ask(request, loadTimeoutMs, signal);
  } finally {
    child.kill(new RuntimeError('runtime/closed', `${request.kind} is over`));
    await child.ended();
  }
}
