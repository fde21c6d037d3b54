import type { Model } from '@flotilla/onnx';
import type { Session, Tensors } from '@flotilla/runtime';
import { type ModelSessionOptions, openModelSession } from '../calibrate/model-session.ts';
import { constantBytes } from '../compile/source.ts';
import { divergences } from '../evaluate/language-error.ts';
import { OutputError } from '../evaluate/output-error.ts';
import type { RecipeStep } from '../recipe.ts';
import { applyRecipe } from '../runner.ts';
import { FLOAT, type Format, FORMATS } from './formats.ts';
import type { Unit } from './units.ts';

/** What one unit in one format costs, all else float. */
export interface Choice {
  readonly format: Format;
  /** Of the whole model's constants. */
  readonly bytes: number;
  /**
   * Mean KL divergence of a language model's predictions, else noise over signal of the outputs. Small ones of several
   * units add up.
   */
  readonly noise: number;
}

/** Outputs of the float model, and a model's distance from them. */
export interface Reference {
  noiseOf(model: Model, options?: Pick<ModelSessionOptions, 'accuracyLevel'>): Promise<number>;
}

/** @param feeds few: every unit is run on all of them, in every format */
export async function referenceOf(model: Model, feeds: readonly Tensors[], isText: boolean): Promise<Reference> {
  const fetches = isText ? ['logits'] : undefined;
  const outputsOf = async (
    of: Model,
    take: (outputs: Tensors, index: number) => void,
    options?: ModelSessionOptions,
  ): Promise<void> => {
    const session: Session = await openModelSession(of, options);
    try {
      for (const [index, inputs] of feeds.entries()) take(await session.run(inputs, { fetches }), index);
    } finally {
      await session.close();
    }
  };
  const references: Tensors[] = [];
  await outputsOf(model, (outputs) => references.push(outputs));
  return {
    async noiseOf(other, options) {
      const error = new OutputError();
      const klds: number[] = [];
      const compare = (outputs: Tensors, index: number): void => {
        const { logits: a } = references[index] ?? {};
        const { logits: b } = outputs;
        if (isText && a?.dtype === 'float32' && b?.dtype === 'float32') klds.push(...divergences(a, b.data));
        else error.add(references[index] ?? {}, outputs);
      };
      await outputsOf(other, compare, options);
      if (isText) return klds.reduce((sum, kld) => sum + kld, 0) / klds.length;
      const db = error.sqnrDb();
      return db === null ? 0 : 10 ** (-db / 10);
    },
  };
}

/** Each unit alone in each format, rounded to nearest: one list a unit, float first. */
export async function sensitivities(
  cleaned: Model,
  units: readonly Unit[],
  reference: Reference,
  {
    signal,
    progress,
  }: { readonly signal?: AbortSignal | undefined; readonly progress: (done: number, total: number) => void },
): Promise<readonly (readonly Choice[])[]> {
  const whole = constantBytes(cleaned);
  const table: Choice[][] = [];
  for (const { nodes } of units) {
    const choices: Choice[] = [{ format: FLOAT, bytes: whole, noise: 0 }];
    for (const format of FORMATS) {
      signal?.throwIfAborted();
      const step = format.step(nodes, 'rtn');
      if (!step) continue;
      const model = await converted(cleaned, [step]);
      choices.push({ format, bytes: constantBytes(model), noise: await reference.noiseOf(model) });
      progress(table.length * FORMATS.length + choices.length, units.length * FORMATS.length);
    }
    table.push(choices);
  }
  return table;
}

export async function converted(model: Model, passes: readonly RecipeStep[]): Promise<Model> {
  return (await applyRecipe(model, { name: 'sensitivity', passes })).model;
}
