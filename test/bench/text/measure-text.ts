import { decoderFeeds, type LoadedSession, profileOperators, spawnSession } from '@flotilla/runtime';
import { someTokens, type TextBuild } from './text-builds.ts';

export interface TextFigures {
  readonly name: string;
  /** Medians of steps taken in turns with every other build's. */
  readonly tokensPerSecond: { readonly [context: string]: number };
  /** Of a step: all that is not ONNX Runtime's `run`, messages between processes among it. */
  readonly outsideShare: number;
  /** Of 128 tokens. */
  readonly prefillMs: number;
  /** Of the process that holds the model, after all of this. */
  readonly privateBytes: number | null;
  /** One step behind 64 tokens, by operator, the greatest first. */
  readonly operators: readonly { readonly op: string; readonly us: number; readonly share: number }[];
}

export interface TextRounds {
  /** Rounds of all builds in turn. */
  readonly rounds: number;
  /** Steps of each build in a round. */
  readonly steps: number;
}

const CONTEXTS = [64, 1000] as const;
const PREFILL = 128;

interface Running {
  readonly build: TextBuild;
  readonly session: LoadedSession;
  readonly walls: Map<number, number[]>;
  readonly outside: number[];
  readonly prefills: number[];
}

/** All builds side by side, each in a process of its own, measured in turns. */
export async function measureText(
  builds: readonly TextBuild[],
  { rounds, steps }: TextRounds,
  say: (line: string) => void,
): Promise<readonly TextFigures[]> {
  const running: Running[] = [];
  try {
    for (const build of builds) {
      const session = await spawnSession(build.path, { ...build.options, timeoutMs: 600_000, loadTimeoutMs: 600_000 });
      running.push({ build, session, walls: new Map(), outside: [], prefills: [] });
    }
    await prefill(running, rounds, say);
    for (const context of CONTEXTS) await decode(running, context, { rounds, steps }, say);
    const figures: TextFigures[] = [];
    for (const one of running) figures.push(await figuresOf(one));
    return figures;
  } finally {
    for (const { session } of running) await session.close();
  }
}

async function prefill(running: readonly Running[], rounds: number, say: (line: string) => void): Promise<void> {
  say(`prefill of ${PREFILL} tokens`);
  // The first round warms up.
  for (let round = 0; round <= rounds; round++)
    for (const { session, prefills } of running) {
      const ids = someTokens(PREFILL, round);
      const start = performance.now();
      await session.decode({ ids, batch: 1, past: 0, choice: greedy });
      if (round > 0) prefills.push(performance.now() - start);
    }
}

async function decode(
  running: readonly Running[],
  context: number,
  { rounds, steps }: TextRounds,
  say: (line: string) => void,
): Promise<void> {
  say(`decoding behind ${context} tokens`);
  for (const { session, walls } of running) {
    await session.decode({ ids: someTokens(context), batch: 1, past: 0 });
    walls.set(context, []);
  }
  for (let round = 0; round <= rounds; round++)
    for (const { session, walls, outside } of running)
      for (let step = 0; step < steps; step++) {
        const start = performance.now();
        // Behind the same tokens every time: what is read is dropped again by the next step.
        const { modelMs } = await session.decode({ ids: someTokens(1, step), batch: 1, past: context, choice: greedy });
        const wall = performance.now() - start;
        if (round === 0) continue;
        walls.get(context)?.push(wall);
        if (context === CONTEXTS[0]) outside.push(1 - modelMs / wall);
      }
}

async function figuresOf({ build, session, walls, outside, prefills }: Running): Promise<TextFigures> {
  const { privateBytes } = await session.memory();
  const times = await profileOperators(build.path, [decoderFeeds(session.inputs, [1], CONTEXTS[0])], {
    ...build.options,
    runs: 10,
  });
  const byOp = new Map<string, { us: number; share: number }>();
  for (const { op, us, share } of times) {
    const sum = byOp.get(op) ?? { us: 0, share: 0 };
    byOp.set(op, { us: sum.us + us, share: sum.share + share });
  }
  return {
    name: build.name,
    tokensPerSecond: Object.fromEntries(CONTEXTS.map((context) => [context, 1000 / median(walls.get(context) ?? [])])),
    outsideShare: median(outside),
    prefillMs: median(prefills),
    privateBytes,
    operators: [...byOp].map(([op, sum]) => ({ op, ...sum })).toSorted((a, b) => b.us - a.us),
  };
}

const greedy = { sampling: {}, draws: [0], allowed: [undefined] };

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
