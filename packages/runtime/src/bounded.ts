import { createContext, Script } from 'node:vm';

// A regular expression, or a template's loop, can take for ever and cannot be told to stop from beside it. What runs
// under a script's timeout can be: V8 ends it wherever it is.
const script = new Script('work()');
const sandbox: { work: (() => unknown) | undefined } = { work: undefined };
const context = createContext(sandbox);

/**
 * Runs `work` for at most `ms`.
 * @param late what is thrown when it takes longer
 */
export function within<T>(ms: number, work: () => T, late: () => Error): T {
  let result: { readonly value: T } | undefined;
  sandbox.work = () => {
    result = { value: work() };
  };
  try {
    script.runInContext(context, { timeout: Math.ceil(ms) });
  } catch (error) {
    if (isTimeout(error)) throw late();
    throw error;
  } finally {
    sandbox.work = undefined;
  }
  return (result as unknown as { readonly value: T }).value;
}

function isTimeout(error: unknown): boolean {
  // Of the context's own realm: no instance of this one's Error.
  return (
    typeof error === 'object' && error !== null && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
  );
}
