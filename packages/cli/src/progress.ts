import type { Globals } from './output.ts';
import { bytes } from './text.ts';

/** How far a long step is. `total` undefined: unknown. */
export interface Progress {
  readonly step: string;
  readonly done: number;
  readonly total: number | undefined;
  /** What is counted; default: things of the step. */
  readonly unit?: 'bytes' | undefined;
}

const WIDTH = 24;
const FIRST_SHOWN_MS = 1000;

/**
 * A progress bar on stderr for what takes longer than a second; nothing where stderr is no terminal or `--quiet` asks for silence.
 * Call `update` as often as you like, `end` once.
 */
export function progressBar(globals: Globals, now: () => number = Date.now) {
  const shown = process.stderr.isTTY === true && !globals.quiet;
  const startedMs = now();
  let drawn = false;
  let current = { step: '', startedMs };
  return {
    update(progress: Progress): void {
      const nowMs = now();
      if (progress.step !== current.step) current = { step: progress.step, startedMs: nowMs };
      if (!shown || nowMs - startedMs < FIRST_SHOWN_MS) return;
      drawn = true;
      process.stderr.write(`\r\x1b[K${progressLine(progress, nowMs - current.startedMs)}`);
    },
    end(): void {
      if (drawn) process.stderr.write('\r\x1b[K');
    },
  };
}

/** Share, step, what is done of how much, and the time left at the pace so far of this step. */
export function progressLine({ step, done, total, unit }: Progress, elapsedMs: number): string {
  if (total === undefined || total <= 0) return `${step} ${done}`;
  const share = Math.min(1, done / total);
  const full = Math.round(share * WIDTH);
  const amount = unit === 'bytes' ? `, ${bytes(done)} of ${bytes(total)}` : '';
  const left =
    share > 0 && share < 1 && elapsedMs >= FIRST_SHOWN_MS
      ? `, ${duration((elapsedMs * (1 - share)) / share)} left`
      : '';
  return `${'█'.repeat(full)}${'░'.repeat(WIDTH - full)} ${Math.round(share * 100)} % ${step}${amount}${left}`;
}

function duration(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return seconds < 100 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}
