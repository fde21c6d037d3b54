import type { Presence } from '@flotilla/protocol';

/**
 * Tells whether another agent runs with this device's identity, from what is on the device's own presence topic.
 *
 * A broker lets only one connection have a client id, so two agents throw each other off in turn. Of the two the one
 * that started first stays: it never yields to a younger instance. The younger one yields as soon as it sees that the
 * older one is alive, and not just remembered by the broker: a birth that is not a retained one, or a session beyond
 * the first that was seen of it.
 */
export class Rivalry {
  private readonly instance: number;
  private readonly firstSeen = new Map<number, number>();

  constructor(instance: number) {
    this.instance = instance;
  }

  /** @returns true if this agent is the one to stop */
  mustYield({ instance, session, online }: Presence, retained: boolean): boolean {
    if (instance >= this.instance) return false; // this very agent, or a younger one that will yield
    const first = this.firstSeen.get(instance);
    if (online && !retained) return true;
    if (first === undefined) this.firstSeen.set(instance, session);
    return first !== undefined && session > first;
  }
}
