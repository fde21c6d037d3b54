import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import {
  describeFailure,
  describeState,
  describeWaiting,
  FAILURE_REASONS,
  STATES,
  verifyDesired,
  WAITING_REASONS,
} from '../src/index.ts';
import { keyId, release, vectors, verifyWith } from './vectors.ts';

const readme = readFile(new URL('../README.md', import.meta.url), 'utf8');

test.each(vectors)('the README gives %s as it is encoded', async (title, bytes) => {
  const block = new RegExp(`^\\*\\*${title}\\*\\*[^\\n]*\\n+\`\`\`\\n([0-9a-f\\n]+)\`\`\``, 'm').exec(
    await readme,
  )?.[1];
  expect(block?.replaceAll('\n', '')).toBe(Buffer.from(bytes).toString('hex'));
});

test("the README's desired release opens with the key of RFC 8032", () => {
  const payload = vectors.find(([title]) => title === 'Desired')?.[1] ?? new Uint8Array();
  expect(verifyDesired(payload, { device: 'pi-1', name: 'labels', keyId, verify: verifyWith })).toEqual(release);
});

test('the README lists every state and reason, with its number and its sentence', async () => {
  const lists: [readonly string[], (one: never) => string][] = [
    [STATES, describeState],
    [FAILURE_REASONS, describeFailure],
    [WAITING_REASONS, describeWaiting],
  ];
  for (const [members, describe] of lists)
    for (const [index, member] of members.entries())
      expect(await readme).toContain(`| ${index + 1} | \`${member}\` | ${describe(member as never)} |`);
});
