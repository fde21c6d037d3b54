import { type DeviceAddress, Presence, PROTOCOL, topicFor } from '@flotilla/protocol';
import type { Link } from './broker/link.ts';

/** No agent's: each takes it for a younger one, which is to yield, and looks at the session alone. */
const NOBODY = Number.MAX_SAFE_INTEGER;

/**
 * Tells a device whose births are older than one already heard which session it must exceed. Its clock was ahead once,
 * or it lost its data folder while the broker lost what it retained: ignored without a word it would be away for ever.
 */
export async function tellNewestSession(link: Link, device: DeviceAddress, session: number): Promise<void> {
  const presence = { protocol: PROTOCOL, session, online: false, instance: NOBODY, birth: undefined };
  await link.publish(topicFor(device, 'presence'), Presence.encode(presence));
}

/** The controller hears what it says to a device, too. */
export function isOwnWord({ instance }: Presence): boolean {
  return instance === NOBODY;
}
