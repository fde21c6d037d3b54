import { openModelFolder } from '@flotilla/checkpoint';
import { type Model, openModel } from '@flotilla/onnx';
import { recipeOf } from './compile/recipe-of.ts';
import { applyRecipe, type CalibrationData } from './runner.ts';

export interface QuantizeOptions {
  readonly bits: 8 | 4;
  /** Weights that share a scale, for 4 bits. Default 32. */
  readonly block?: number | undefined;
  /** Calibration samples. Without them 8 bits measures activations at run time and 4 bits rounds to nearest. */
  readonly data?: CalibrationData | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Opens an `.onnx` file, or the model in a folder of Hugging Face layout, by range. */
export async function loadModel(path: string): Promise<Model> {
  return openModel((await openModelFolder(path)).onnxPath);
}

/**
 * A quantized copy of a model, in portable ONNX; the model given is not changed.
 * @throws {CompilerError} `compiler/weights`, `compiler/calibration` …
 */
export async function quantize(model: Model, options: QuantizeOptions): Promise<Model> {
  const { bits, block, data, signal } = options;
  const activations = bits === 4 ? undefined : data ? 'int8' : 'dynamic';
  const recipe = await recipeOf({ weights: `int${bits}`, activations, block });
  return (await applyRecipe(model, recipe, { calibrationData: data, signal })).model;
}
