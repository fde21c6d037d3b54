import { Answer, Call } from '@flotilla/protocol';
import { AgentError } from './errors.ts';
import type { Interpreter } from './interpreter.ts';
import type { ModelHost } from './model-host.ts';
import type { Link, LoadedModel } from './ports.ts';
import { refusalOf } from './refusal.ts';
import type { Reporter } from './reporter.ts';

/** Requests to all models that are answered or wait. */
const MOST_CALLS = 8;
const MOST_TOKENS = 512;
const MOST_BENCH_MS = 60_000;

/** Answers requests with what serves at the moment; a model that breaks on one is told to the mind. */
export class Calls {
  private readonly parts: {
    readonly link: Link;
    readonly host: ModelHost;
    readonly reporter: Reporter;
    readonly interpreter: Interpreter;
  };
  private readonly abort = new AbortController();
  private readonly failures = new Map<string, number>();
  private open = 0;

  constructor(parts: Calls['parts']) {
    this.parts = parts;
  }

  /** @throws {ProtocolError} */
  receive(payload: Uint8Array): void {
    const call = Call.decode(payload);
    void this.answer(call).then((answer) => {
      if (!this.abort.signal.aborted) this.parts.link.publish({ kind: 'answer', payload: Answer.encode(answer) });
    });
  }

  stop(): void {
    this.abort.abort();
  }

  private async answer(call: Call): Promise<Answer> {
    const model = this.parts.host.serving(call.name);
    this.open++;
    try {
      if (this.open > MOST_CALLS) throw new AgentError('agent/busy', `${MOST_CALLS} requests wait already`);
      if (model === undefined) throw new AgentError('agent/no-model', `no model "${call.name}" is loaded`);
      return call.benchMs > 0 ? await this.bench(call, model) : await this.prompt(call, model);
    } catch (error) {
      return { ...nothing, id: call.id, error: await this.explain(call.name, model, error) };
    } finally {
      this.open--;
    }
  }

  private async prompt(call: Call, model: LoadedModel): Promise<Answer> {
    if (model.task !== 'text') throw new AgentError('agent/not-text', `"${call.name}" is not a text model`);
    const maxTokens = Math.min(call.maxTokens || 64, MOST_TOKENS);
    const generated = await model.generate({ ...call, maxTokens }, this.abort.signal);
    return { ...nothing, ...generated, id: call.id, digest: model.digest };
  }

  private async bench(call: Call, model: LoadedModel): Promise<Answer> {
    const measured = await model.measure(Math.min(call.benchMs, MOST_BENCH_MS), this.abort.signal);
    this.parts.reporter.telemetry(call.name, model.digest, measured, this.failures.get(call.name) ?? 0);
    return { ...nothing, id: call.id, digest: model.digest };
  }

  private async explain(name: string, model: LoadedModel | undefined, error: unknown): Promise<string> {
    if (error instanceof AgentError) return `${error.code}: ${error.message}`;
    this.failures.set(name, (this.failures.get(name) ?? 0) + 1);
    const refusal = refusalOf(error, 'unhealthy');
    const broken = refusal.reason === 'crashed' || refusal.reason === 'hung' || refusal.reason === 'memory';
    if (broken && model !== undefined) await this.parts.interpreter.lose(name, model, refusal);
    return `${refusal.reason}: ${refusal.message}`.slice(0, 500);
  }
}

const nothing: Answer = {
  id: '',
  digest: '',
  text: '',
  tokens: 0,
  timeToFirstTokenUs: 0,
  tokensPerSecond: 0,
  error: '',
};
