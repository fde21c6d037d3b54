import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile } from '@flotilla/compiler';
import { openRuntime, type Runtime } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commands } from '../../../test/models/builds.ts';
import { commandSchema as schema, isCommand } from '../../../test/models/command-schema.ts';
import { LLAMA } from './packs.ts';

// 60 of the 300 commands; scripts/bench asks all of them.
describe('the commands model under a schema', () => {
  let runtime: Runtime;
  beforeAll(async () => {
    const pack = join(await mkdtemp(join(tmpdir(), 'commands-')), 'commands.pack');
    const lora = [{ dir: 'test/fixtures/models/adapters/intents-lora' }];
    await compile(LLAMA, pack, { weights: 'int4', lora, latencySeconds: 0 });
    runtime = await openRuntime(pack);
  }, 120_000);
  afterAll(() => runtime?.close());

  test('answers what it answers without one, in a process of its own', async () => {
    const asked = await commands(60);
    const prompts = asked.map(({ prompt }) => prompt);
    const free = await runtime.text().generateAll(prompts);
    const kept = await runtime.text().generateAll(prompts, { schema });
    expect(kept.map(({ text }) => isCommand(text))).toEqual(prompts.map(() => true));
    for (const [i, { text, stopReason }] of kept.entries()) {
      expect(stopReason).toBe('end');
      if (isCommand(free[i]?.text ?? '')) expect(text).toBe(free[i]?.text);
    }
    const right = kept.filter(({ text }, i) => text.trim() === asked[i]?.completion.trim()).length;
    expect(right).toBeGreaterThanOrEqual(58);
  });

  test('answers whatever is asked and drawn with a command', async () => {
    for (const [seed, prompt] of ['good morning', '{}', 'switch', '=> =>', 'a b c'].entries()) {
      const { text } = await runtime.text().generate(prompt, { schema, temperature: 3, seed, maxTokens: 45 });
      expect({ text, ok: isCommand(text) }).toEqual({ text, ok: true });
    }
  });
});
