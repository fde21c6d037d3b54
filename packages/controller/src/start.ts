import type { Controller, ControllerOptions } from './options.ts';

/**
 * Starts the server: database, broker, rollout engine, HTTP API. What an earlier controller on the same data left
 * unfinished is taken up.
 * @throws {ControllerError} `controller/locked`, `controller/port-in-use`, `controller/listen`, `controller/database`,
 *   `controller/broker`, `controller/key`, `controller/data-dir`
 */
export async function startController(options: ControllerOptions): Promise<Controller> {
  const { serve } = await import('./serve.ts'); // a client of a controller needs neither broker nor database
  return serve(options);
}
