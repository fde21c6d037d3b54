import { join } from 'node:path';
import { type AdapterConfig, readAdapterConfig } from './adapter-config.ts';
import { gatherTensors, type ModuleTensors } from './adapter-tensors.ts';
import { CheckpointError } from './errors.ts';
import { openSafetensors, type Safetensors } from './safetensors.ts';
import { checkTargets, patternValues } from './targets.ts';

/**
 * The factors of one layer. An embedding is a linear layer too: of one-hot rows, `inFeatures` tokens wide; a convolution
 * is one whose every output reads `inFeatures` × the kernel.
 */
export interface LoraModule {
  /** Row-major `[rank, inFeatures × kernel]`. */
  readonly a: Float32Array;
  /** Row-major `[outFeatures, rank]`. */
  readonly b: Float32Array;
  readonly rank: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Lengths of the kernel's sides; empty for anything but a convolution. */
  readonly kernel: readonly number[];
  /** What B · A is multiplied by: α / rank, with rsLoRA α / √rank. */
  readonly scale: number;
  /** DoRA: the length of each output's row of weights, `[outFeatures]`. */
  readonly magnitude: Float32Array | undefined;
  /** B's own bias `[outFeatures]`, scaled as B · A is. */
  readonly bias: Float32Array | undefined;
}

/** Values that take the place of a base's parameter. */
export interface WholeParameter {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Rows that take the place of an embedding's. */
export interface TrainedTokens {
  readonly indices: readonly number[];
  /** Row-major `[indices.length, width]`. */
  readonly rows: Float32Array;
  readonly width: number;
}

export interface LoraAdapter {
  readonly dir: string;
  readonly config: AdapterConfig;
  /** By module path in the base model: `model.layers.0.self_attn.q_proj`. */
  readonly modules: ReadonlyMap<string, LoraModule>;
  /** Trained whole (`modules_to_save`, `bias`), by the parameter's name: `lm_head.weight`. */
  readonly parameters: ReadonlyMap<string, WholeParameter>;
  /** By the embedding's module path. */
  readonly tokens: ReadonlyMap<string, TrainedTokens>;
}

/**
 * Reads a PEFT adapter: `adapter_config.json` and `adapter_model.safetensors`. Every variant of LoRA that is a change of
 * weights; the others are refused by name rather than merged as if they were plain. All is checked here: pairs, ranks,
 * shapes, and that every number is finite.
 * @throws {CheckpointError} `checkpoint/adapter-config`, `checkpoint/adapter-kind`, `checkpoint/adapter-targets`,
 *   `checkpoint/adapter-tensors`, and what `openSafetensors` throws
 */
export async function openAdapter(dir: string): Promise<LoraAdapter> {
  const configPath = join(dir, 'adapter_config.json');
  const config = await readAdapterConfig(configPath);
  const file = await openSafetensors(join(dir, 'adapter_model.safetensors'));
  try {
    const found = gatherTensors(file, config);
    checkTargets([...found.modules.keys()], config.targets, configPath);
    return {
      dir,
      config,
      modules: await readModules(file, config, found.modules, configPath),
      parameters: await readParameters(file, found.parameters),
      tokens: await readTokens(file, config, found.tokens),
    };
  } finally {
    await file.close();
  }
}

async function readModules(
  file: Safetensors,
  config: AdapterConfig,
  found: ReadonlyMap<string, ModuleTensors>,
  configPath: string,
): Promise<ReadonlyMap<string, LoraModule>> {
  const names = [...found.keys()];
  const ranks = patternValues(names, config.rankPattern, configPath);
  const alphas = patternValues(names, config.alphaPattern, configPath);
  const modules = new Map<string, LoraModule>();
  for (const [module, tensors] of found) {
    const rank = ranks.get(module) ?? config.rank;
    const alpha = alphas.get(module) ?? config.alpha;
    const shapeA = file.tensors.get(tensors.A)?.shape ?? [];
    const shapeB = file.tensors.get(tensors.B)?.shape ?? [];
    checkShapes(module, shapeA, shapeB, { rank, isEmbedding: tensors.isEmbedding }, file.path);
    const [, inFeatures = 0, ...kernel] = shapeA;
    const [outFeatures = 0] = shapeB;
    const vector = async (name: string | undefined): Promise<Float32Array | undefined> => {
      if (name === undefined) return undefined;
      const values = await finiteFloats(file, name);
      if (values.length === outFeatures) return values;
      throw tensorsError(file.path, `${name} has ${values.length} elements for ${outFeatures} outputs`);
    };
    modules.set(module, {
      a: await finiteFloats(file, tensors.A),
      b: await finiteFloats(file, tensors.B),
      rank,
      inFeatures,
      outFeatures,
      kernel,
      scale: alpha / (config.rsLora ? Math.sqrt(rank) : rank),
      magnitude: await vector(tensors.magnitude),
      bias: await vector(tensors.bias),
    });
  }
  return modules;
}

/** A `[rank, in, …kernel]`, B `[out, rank]`, with the kernel's ones behind it in a convolution. */
function checkShapes(
  module: string,
  a: readonly number[],
  b: readonly number[],
  { rank, isEmbedding }: { readonly rank: number; readonly isEmbedding: boolean },
  path: string,
): void {
  const shapes = `lora_A [${a.join(', ')}], lora_B [${b.join(', ')}]`;
  const ones = b.slice(2).every((side) => side === 1);
  if (a.length < 2 || a.length > 5 || a.length !== b.length || !ones || (isEmbedding && a.length !== 2))
    throw tensorsError(path, `${module}: ${shapes} are no factors of a matrix or a convolution`);
  if ([...a, ...b].includes(0)) throw tensorsError(path, `${module}: ${shapes} are empty`);
  if (a[0] === rank && b[1] === rank) return;
  if (a[1] === rank && b[0] === rank) throw tensorsError(path, `${module}: ${shapes}: lora_A and lora_B are swapped`);
  throw tensorsError(path, `${module}: ${shapes} do not have the rank ${rank} of adapter_config.json`);
}

async function readParameters(
  file: Safetensors,
  found: ReadonlyMap<string, string>,
): Promise<ReadonlyMap<string, WholeParameter>> {
  const parameters = new Map<string, WholeParameter>();
  for (const [parameter, name] of found) {
    const { shape = [] } = file.tensors.get(name) ?? {};
    parameters.set(parameter, { shape, values: await finiteFloats(file, name) });
  }
  return parameters;
}

async function readTokens(
  file: Safetensors,
  { tokenIndices }: AdapterConfig,
  found: ReadonlyMap<string, string>,
): Promise<ReadonlyMap<string, TrainedTokens>> {
  const tokens = new Map<string, TrainedTokens>();
  for (const [module, name] of found) {
    const key = [...tokenIndices.keys()].find((end) => end === '' || `.${module}`.endsWith(`.${end}`));
    const indices = tokenIndices.get(key ?? 'no such key');
    const [count = 0, width = 0, ...more] = file.tensors.get(name)?.shape ?? [];
    if (indices === undefined)
      throw tensorsError(file.path, `${name}: trainable_token_indices does not name ${module}`);
    if (more.length > 0 || count !== indices.length || new Set(indices).size !== count)
      throw tensorsError(file.path, `${name} has ${count} rows for ${indices.length} trainable_token_indices`);
    tokens.set(module, { indices, rows: await finiteFloats(file, name), width });
  }
  if (tokenIndices.size > tokens.size)
    throw tensorsError(file.path, 'trainable_token_indices is set, and the trained rows are missing');
  return tokens;
}

async function finiteFloats(file: Safetensors, name: string): Promise<Float32Array> {
  const values = await file.floats(name);
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw tensorsError(file.path, `${name}[${at}] is ${values[at]}`);
  return values;
}

function tensorsError(path: string, what: string): CheckpointError {
  return new CheckpointError('checkpoint/adapter-tensors', `${path}: ${what}`, { where: path });
}
