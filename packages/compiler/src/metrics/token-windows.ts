import type { TextModel } from '@flotilla/runtime';
import type { TextSample } from '../data/data-set.ts';

/** Predictions per window. Windows overlap by one token: the last of one is the first of the next. */
const PREDICTIONS = 128;

/** All texts, each with its newline, as windows of 129 tokens; one short one where there is less. The rest is dropped. */
export async function tokenWindows(
  { tokenizer }: Pick<TextModel, 'tokenizer'>,
  texts: AsyncIterable<TextSample>,
): Promise<readonly (readonly number[])[]> {
  const ids: number[] = [];
  for await (const { text, completion } of texts) {
    for (const id of tokenizer.encode(`${text}${completion ?? ''}\n`)) ids.push(id);
  }
  const size = Math.min(PREDICTIONS, ids.length - 1);
  const windows: (readonly number[])[] = [];
  if (size < 1) return windows;
  for (let start = 0; start + size < ids.length; start += size) windows.push(ids.slice(start, start + size + 1));
  return windows;
}
