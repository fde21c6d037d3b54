import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { root } from '../tiers/run.ts';
import { cores, type Machine, openMachine, whyNoMachine } from './machine.ts';

describe.each(cores)('$cpu ($board)', (core) => {
  let machine: Machine | undefined;
  let why = whyNoMachine();

  beforeAll(async () => {
    if (why !== undefined) return;
    machine = await openMachine(core).catch((error: Error) => {
      why = error.message;
      return undefined;
    });
  }, 150_000);

  test('is what the board’s profile says', async (context) => {
    if (machine === undefined) return context.skip(why);
    const { status, output } = await machine.run([
      '--input-type=module',
      '-e',
      `import { detectHost, loadBoard } from ${JSON.stringify(join(root, 'packages/boards/dist/index.js'))};
       const [host, board] = [await detectHost(), await loadBoard('${core.board}')];
       console.log(JSON.stringify([host, board].map(({ arch, boardClass }) => ({ arch, boardClass }))));`,
    ]);
    const [host, board] = JSON.parse(output) as [unknown, unknown];
    expect({ status, host }).toEqual({ status: 0, host: board });
  });
});
