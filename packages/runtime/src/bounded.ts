import { createContext, Script } from 'node:vm';

// A regular expression, or a template's loop, can take for ever and cannot be told to stop from beside it. What runs
// under a script's timeout can be: V8 ends it wherever it is.
const script = new Script('work()');
const sandbox: { work: (() => unknown) | undefined } = { work: undefined };
const context = createContext(sandbox);

/** Each try has twice the time of the one before. */
const TRIES = 6;

/**
 * Runs `work`, which has no effects, for at most `ms` of computing: where others held the processor all the while, it is
 * tried again with more time.
 * @param late what is thrown when it takes longer
 */
export function within<T>(ms: number, work: () => T, late: () => Error): T {
  for (let attempt = 0, limit = ms; attempt < TRIES; attempt++, limit *= 2) {
    const before = process.cpuUsage();
    const result = tryWithin(limit, work);
    if (result) return result.value;
    const { user, system } = process.cpuUsage(before);
    if ((user + system) / 1000 >= ms / 2) break;
  }
  throw late();
}

/** Undefined where time ran out. */
function tryWithin<T>(ms: number, work: () => T): { readonly value: T } | undefined {
  let result: { readonly value: T } | undefined;
  sandbox.work = () => {
    result = { value: work() };
  };
  try {
    script.runInContext(context, { timeout: Math.ceil(ms) });
  } catch (error) {
    if (!isTimeout(error)) throw error;
  } finally {
    sandbox.work = undefined;
  }
  return result;
}

function isTimeout(error: unknown): boolean {
  // Of the context's own realm: no instance of this one's Error.
  return (
    typeof error === 'object' && error !== null && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
  );
}
