/**
 * A signal that aborts at the first Ctrl-C or SIGTERM, so that a command can leave nothing half-written.
 * A second Ctrl-C ends the process at once.
 */
export function untilInterrupted(): AbortSignal {
  const controller = new AbortController();
  const stop = () => controller.abort(new DOMException('interrupted', 'AbortError'));
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  return controller.signal;
}

export function isInterruption(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || isInterruption(error.cause));
}
