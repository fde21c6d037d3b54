import type { EffectOf, EventOf, TimerName } from './mind/event.ts';
import type { Clock } from './ports.ts';

/** One timer per model and name; a new one replaces it. */
export class Timers {
  private readonly clock: Clock;
  private readonly stops = new Map<string, () => void>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  start({ name, timer, sequence, step, ms }: EffectOf<'start-timer'>, fire: (event: EventOf<'timer'>) => void): void {
    this.stop(name, timer);
    const key = `${timer} ${name}`;
    const stop = this.clock.after(ms, () => {
      this.stops.delete(key);
      fire({ kind: 'timer', timer, name, sequence, step });
    });
    this.stops.set(key, stop);
  }

  stop(name: string, timer: TimerName): void {
    const key = `${timer} ${name}`;
    this.stops.get(key)?.();
    this.stops.delete(key);
  }

  stopAll(): void {
    for (const stop of this.stops.values()) stop();
    this.stops.clear();
  }
}
