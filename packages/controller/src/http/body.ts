import type { z } from 'zod';
import { ControllerError } from '../errors.ts';

const MAX_JSON_BYTES = 65_536;

/**
 * Reads a JSON body, bounded in bytes and time, and checks it.
 * @throws {ControllerError} `controller/too-large`, `controller/timeout`, `controller/request`
 */
export async function readJson<S extends z.ZodType>(
  request: Request,
  schema: S,
  timeoutMs: number,
): Promise<z.output<S>> {
  const type = request.headers.get('content-type') ?? '';
  // Also what keeps a foreign web page from sending one without the browser asking first.
  if (!/^application\/json\b/i.test(type)) throw bad('the body must be application/json');
  const text = await within(timeoutMs, readText(request));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw bad('the body is not JSON');
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue?.path.join('.') || undefined;
  throw bad(`${where ?? 'the body'}: ${issue?.message ?? 'is not as it should be'}`, where);
}

async function readText(request: Request): Promise<string> {
  const declared = Number(request.headers.get('content-length') ?? 0);
  if (declared > MAX_JSON_BYTES) throw tooLarge();
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  if (request.body !== null)
    for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      if (bytes > MAX_JSON_BYTES) throw tooLarge();
      text += decoder.decode(chunk, { stream: true });
    }
  return text + decoder.decode();
}

/** Rejects with 408 if `promise` takes longer. */
export async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new ControllerError('controller/timeout', `the body did not arrive within ${timeoutMs / 1000} s`);
    timer = setTimeout(() => reject(error), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Passes bytes on while none is awaited for longer than `idleMs`. */
export async function* notIdle(content: AsyncIterable<Uint8Array>, idleMs: number): AsyncGenerator<Uint8Array> {
  const iterator = content[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await within(idleMs, iterator.next());
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    void iterator.return?.();
  }
}

const bad = (message: string, where?: string): ControllerError =>
  new ControllerError('controller/request', message, { where });

const tooLarge = (): ControllerError =>
  new ControllerError('controller/too-large', `the body is over ${MAX_JSON_BYTES} bytes`);
