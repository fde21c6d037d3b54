import type { Clock } from './ports.ts';

/** The real one. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after(ms, act) {
    const timer = setTimeout(act, Math.min(ms, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  },
};
