import { ControllerError } from './errors.ts';
import type { TimelineEvent } from './timeline.ts';

const MAX_FRAME = 1 << 20;

/**
 * Reads server-sent events. A comment (the heartbeat) comes as undefined, so that the reader can look whether anything
 * is left to wait for.
 * @throws {ControllerError} `controller/unreachable` if the connection breaks
 */
export async function* eventsOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<TimelineEvent | undefined> {
  const decoder = new TextDecoder();
  let text = '';
  try {
    for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > MAX_FRAME) throw new Error('an event without an end');
      const frames = text.split('\n\n');
      text = frames.pop() ?? '';
      for (const frame of frames) yield parse(frame);
    }
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new ControllerError('controller/unreachable', `the event stream broke off: ${message}`, { cause });
  }
}

function parse(frame: string): TimelineEvent | undefined {
  const data = frame.split('\n').find((line) => line.startsWith('data: '));
  return data === undefined ? undefined : (JSON.parse(data.slice(6)) as TimelineEvent);
}
