import type { Engine, LoadedModel } from './ports.ts';

/**
 * Holds what is loaded: per model name one that serves, and during an update a candidate beside it. Loading and
 * unloading under one name happen one after the other.
 */
export class ModelHost {
  private readonly engine: Engine;
  private readonly served = new Map<string, LoadedModel>();
  private readonly candidates = new Map<string, LoadedModel>();
  private readonly turns = new Map<string, Promise<unknown>>();

  constructor(engine: Engine) {
    this.engine = engine;
  }

  serving(name: string): LoadedModel | undefined {
    return this.served.get(name);
  }

  candidate(name: string): LoadedModel | undefined {
    return this.candidates.get(name);
  }

  async loadCandidate(name: string, folder: string, signal: AbortSignal): Promise<LoadedModel> {
    const model = await this.engine.load(folder, { signal });
    await this.dropCandidate(name);
    this.candidates.set(name, model);
    return model;
  }

  async dropCandidate(name: string): Promise<void> {
    const model = this.candidates.get(name);
    this.candidates.delete(name);
    await model?.close();
  }

  /** From here on this slot answers, and nothing else under the name. A tried candidate need not be loaded again. */
  serve(name: string, digest: string, folder: string): Promise<LoadedModel> {
    return this.inTurn(name, async () => {
      const present = this.served.get(name);
      if (present?.digest === digest) return present;
      const candidate = this.candidates.get(name);
      if (candidate?.digest === digest) {
        this.candidates.delete(name);
        this.served.set(name, candidate);
        await present?.close();
        return candidate;
      }
      await this.release(name);
      const model = await this.engine.load(folder, { signal: new AbortController().signal });
      this.served.set(name, model);
      return model;
    });
  }

  unload(name: string): Promise<void> {
    return this.inTurn(name, () => this.release(name));
  }

  /** Forgets a model that proved broken, if it is still the one that serves. */
  async discard(name: string, model: LoadedModel): Promise<boolean> {
    if (this.served.get(name) !== model) return false;
    await this.release(name);
    return true;
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.turns.values());
    const models = [...this.served.values(), ...this.candidates.values()];
    this.served.clear();
    this.candidates.clear();
    await Promise.all(models.map((model) => model.close()));
  }

  private async release(name: string): Promise<void> {
    const model = this.served.get(name);
    this.served.delete(name);
    await model?.close();
  }

  private inTurn<T>(name: string, act: () => Promise<T>): Promise<T> {
    const turn = (this.turns.get(name) ?? Promise.resolve()).then(act, act);
    this.turns.set(
      name,
      turn.catch(() => undefined),
    );
    return turn;
  }
}
