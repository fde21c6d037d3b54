import { decoderFeeds, type LoadedSession, profileOperators, spawnSession } from '@flotilla/runtime';
import type { Peer } from './peers.ts';
import { someTokens, type TextBuild } from './text-builds.ts';

export interface TextFigures {
  readonly name: string;
  /** Medians of steps taken in turns with every other build's. */
  readonly tokensPerSecond: { readonly [context: string]: number };
  /** From the fastest steps: what a busy machine disturbs least. */
  readonly bestTokensPerSecond: { readonly [context: string]: number };
  /** Of a step: all that is not ONNX Runtime's `run`, messages between processes among it. Not known of peers. */
  readonly outsideShare: number | null;
  /** Of 128 tokens. */
  readonly prefillMs: number;
  readonly bestPrefillMs: number;
  /** Of the process that holds the model, after decoding behind so many tokens. */
  readonly privateBytes: { readonly [context: string]: number | null };
  /** One step behind 64 tokens, by operator, the greatest first; empty for peers. */
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
const PIECE = 512;

interface Decoded {
  /** Milliseconds of each. */
  readonly steps: readonly number[];
  /** Of all their time. */
  readonly outside: number | null;
}

/** One of those that take turns: ours or a peer. */
interface Runner {
  readonly name: string;
  /** Reads tokens into an empty cache. */
  prefill(ids: readonly number[]): Promise<number>;
  /** So many steps of a text, the first behind `context` tokens. */
  decode(context: number, steps: number): Promise<Decoded>;
  privateBytes(): Promise<number | null>;
  operators(): Promise<TextFigures['operators']>;
}

/** All builds and peers side by side, each in a process of its own, measured in turns. */
export async function measureText(
  builds: readonly TextBuild[],
  peers: readonly Peer[],
  { rounds, steps }: TextRounds,
  say: (line: string) => void,
): Promise<readonly TextFigures[]> {
  const sessions: LoadedSession[] = [];
  try {
    const runners: Runner[] = [];
    for (const build of builds) {
      const session = await spawnSession(build.path, { ...build.options, timeoutMs: 600_000, loadTimeoutMs: 600_000 });
      sessions.push(session);
      runners.push(ourRunner(build, session));
    }
    runners.push(...peers.map(peerRunner));
    const records = runners.map((runner) => new Record(runner));
    say(`prefill of ${PREFILL} tokens`);
    // Every first round warms up.
    for (let round = 0; round <= rounds; round++)
      for (const record of records) await record.prefill(someTokens(PREFILL, round), round > 0);
    for (const context of CONTEXTS) {
      say(`decoding behind ${context} tokens`);
      for (let round = 0; round <= rounds; round++)
        for (const record of records) await record.decode(context, steps, round > 0);
      for (const record of records) await record.weigh(context);
    }
    const figures: TextFigures[] = [];
    for (const record of records) figures.push(await record.figures());
    return figures;
  } finally {
    for (const session of sessions) await session.close();
  }
}

function ourRunner(build: TextBuild, session: LoadedSession): Runner {
  let behind = 0;
  return {
    name: build.name,
    async prefill(ids) {
      behind = 0;
      const start = performance.now();
      await session.decode({ ids, batch: 1, past: 0, choice: greedy });
      return performance.now() - start;
    },
    async decode(context, steps) {
      // In pieces, as the runtime reads a long prompt.
      if (behind !== context)
        for (let past = 0; past < context; past += PIECE)
          await session.decode({ ids: someTokens(Math.min(PIECE, context - past), past), batch: 1, past });
      behind = context;
      // A text as the runtime writes it: each token is read behind the one before.
      const taken: number[] = [];
      let modelMs = 0;
      let ids: readonly number[] = someTokens(1);
      for (let step = 0; step < steps; step++) {
        const choice = { ...greedy, endsAt: step + 1 < steps ? [] : undefined };
        const start = performance.now();
        const answer = await session.decode({ ids, batch: 1, past: context + step, choice });
        taken.push(performance.now() - start);
        modelMs += answer.modelMs;
        ({ ids } = answer);
      }
      return { steps: taken, outside: 1 - modelMs / taken.reduce((sum, ms) => sum + ms, 0) };
    },
    privateBytes: async () => (await session.memory()).privateBytes,
    operators: () => operatorsOf(build, session),
  };
}

function peerRunner(peer: Peer): Runner {
  return {
    name: peer.name,
    prefill: async (ids) => (await peer.ask(ids, 0)).prefillMs,
    async decode(context, steps) {
      const { stepMs } = await peer.ask(someTokens(context), steps);
      return { steps: stepMs, outside: null };
    },
    privateBytes: () => peer.privateBytes(),
    operators: async () => [],
  };
}

class Record {
  private readonly runner: Runner;
  private readonly prefills: number[] = [];
  private readonly steps = new Map<number, number[]>();
  private readonly outside: number[] = [];
  private readonly bytes = new Map<number, number | null>();

  constructor(runner: Runner) {
    this.runner = runner;
  }

  async prefill(ids: readonly number[], counts: boolean): Promise<void> {
    const ms = await this.runner.prefill(ids);
    if (counts) this.prefills.push(ms);
  }

  async decode(context: number, steps: number, counts: boolean): Promise<void> {
    const taken = await this.runner.decode(context, steps);
    if (!counts) return;
    this.steps.set(context, [...(this.steps.get(context) ?? []), ...taken.steps]);
    if (taken.outside !== null && context === CONTEXTS[0]) this.outside.push(taken.outside);
  }

  async weigh(context: number): Promise<void> {
    this.bytes.set(context, await this.runner.privateBytes());
  }

  async figures(): Promise<TextFigures> {
    return {
      name: this.runner.name,
      tokensPerSecond: Object.fromEntries([...this.steps].map(([context, ms]) => [context, 1000 / median(ms)])),
      bestTokensPerSecond: Object.fromEntries(
        [...this.steps].map(([context, ms]) => [context, 1000 / Math.min(...ms)]),
      ),
      outsideShare: this.outside.length > 0 ? median(this.outside) : null,
      prefillMs: median(this.prefills),
      bestPrefillMs: Math.min(...this.prefills),
      privateBytes: Object.fromEntries(this.bytes),
      operators: await this.runner.operators(),
    };
  }
}

async function operatorsOf({ path, options }: TextBuild, { inputs }: LoadedSession): Promise<TextFigures['operators']> {
  const times = await profileOperators(path, [decoderFeeds(inputs, [1], CONTEXTS[0])], { ...options, runs: 10 });
  const byOp = new Map<string, { us: number; share: number }>();
  for (const { op, us, share } of times) {
    const sum = byOp.get(op) ?? { us: 0, share: 0 };
    byOp.set(op, { us: sum.us + us, share: sum.share + share });
  }
  return [...byOp].map(([op, sum]) => ({ op, ...sum })).toSorted((a, b) => b.us - a.us);
}

const greedy = { sampling: {}, draws: [0], allowed: [undefined] };

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
