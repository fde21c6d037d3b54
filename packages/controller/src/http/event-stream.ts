import type { Timeline, TimelineEvent } from '../timeline.ts';

const HEARTBEAT_MS = 15_000;
const MAX_WAITING = 2000;
const PAGE = 500;

/**
 * Server-sent events: first what happened after `after`, then what happens. A reader that does not keep up is cut off;
 * it comes back with the id of the last event it has, and misses nothing.
 */
export function eventStream(
  timeline: Timeline,
  filter: { readonly after: number | undefined; readonly rollout: string | undefined },
  ended: AbortSignal,
): ReadableStream<Uint8Array> | undefined {
  let waiting: TimelineEvent[] = [];
  let wake = (): void => undefined;
  const stopListening = timeline.listen((event) => {
    if (filter.rollout !== undefined && event.rollout !== filter.rollout) return;
    waiting.push(event);
    wake();
  });
  if (stopListening === undefined) return undefined;
  const encoder = new TextEncoder();
  let last = filter.after ?? 0;
  let isCatchingUp = filter.after !== undefined;
  const end = (): void => {
    stopListening();
    wake();
  };
  ended.addEventListener('abort', end, { once: true });
  return new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(encoder.encode(': flotilla\n\n'));
    },
    async pull(controller) {
      if (isCatchingUp) {
        const page = await timeline.since(last, { rollout: filter.rollout, limit: PAGE });
        isCatchingUp = page.length === PAGE;
        for (const event of page) controller.enqueue(encoder.encode(frame(event)));
        last = page.at(-1)?.id ?? last;
        if (page.length > 0) return;
      }
      if (waiting.length === 0 && !ended.aborted) await nextEvent((resolve) => (wake = resolve));
      if (ended.aborted || waiting.length > MAX_WAITING) {
        end();
        controller.close();
        return;
      }
      const ready = waiting.filter(({ id }) => id > last);
      waiting = [];
      for (const event of ready) controller.enqueue(encoder.encode(frame(event)));
      last = ready.at(-1)?.id ?? last;
      if (ready.length === 0) controller.enqueue(encoder.encode(': still here\n\n'));
    },
    cancel: end,
  });
}

async function nextEvent(onWake: (resolve: () => void) => void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    timer = setTimeout(resolve, HEARTBEAT_MS);
    onWake(resolve);
  });
  clearTimeout(timer);
}

const frame = (event: TimelineEvent): string =>
  `id: ${event.id}\nevent: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`;
