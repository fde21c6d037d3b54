import { join } from 'node:path';
import { type AdapterConfig, readAdapterConfig } from './adapter-config.ts';
import { CheckpointError } from './errors.ts';
import { openSafetensors, type Safetensors } from './safetensors.ts';

/** The two factors of one linear layer. */
export interface LoraModule {
  /** Row-major `[rank, inFeatures]`. */
  readonly a: Float32Array;
  /** Row-major `[outFeatures, rank]`. */
  readonly b: Float32Array;
  readonly rank: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** What B · A is multiplied by: α / rank. */
  readonly scale: number;
}

export interface LoraAdapter {
  readonly dir: string;
  readonly config: AdapterConfig;
  /** By module path in the base model: `model.layers.0.self_attn.q_proj`. */
  readonly modules: ReadonlyMap<string, LoraModule>;
}

/** PEFT puts the wrapper's names before the model's, and some versions the adapter's name before `weight`. */
const FACTOR = /^(?:base_model\.model\.)?(?<module>.+)\.lora_(?<letter>[AB])(?:\.[^.]+)?\.weight$/;

/**
 * Reads a PEFT adapter: `adapter_config.json` and `adapter_model.safetensors`. Plain LoRA on linear layers; every other
 * variant is refused by name rather than merged as if it were plain.
 * @throws {CheckpointError} `checkpoint/adapter-config`, `checkpoint/adapter-kind`, `checkpoint/adapter-tensors`,
 *   and what `openSafetensors` throws
 */
export async function openAdapter(dir: string): Promise<LoraAdapter> {
  const config = await readAdapterConfig(join(dir, 'adapter_config.json'));
  const file = await openSafetensors(join(dir, 'adapter_model.safetensors'));
  try {
    return { dir, config, modules: await readModules(file, config) };
  } finally {
    await file.close();
  }
}

async function readModules(file: Safetensors, config: AdapterConfig): Promise<ReadonlyMap<string, LoraModule>> {
  const modules = new Map<string, LoraModule>();
  for (const [module, { A, B }] of pairUp(file)) {
    const shapeA = file.tensors.get(A)?.shape ?? [];
    const shapeB = file.tensors.get(B)?.shape ?? [];
    checkShapes(module, shapeA, shapeB, config.rank, file.path);
    modules.set(module, {
      a: await file.floats(A),
      b: await file.floats(B),
      rank: config.rank,
      inFeatures: shapeA[1] ?? 0,
      outFeatures: shapeB[0] ?? 0,
      scale: config.alpha / config.rank,
    });
  }
  if (modules.size === 0) throw tensorsError(file.path, 'there is not one pair of lora_A and lora_B');
  return modules;
}

/** Tensor names by module. Anything that is not a linear layer's factor is a variant that must not be passed over. */
function pairUp(file: Safetensors): ReadonlyMap<string, { A: string; B: string }> {
  const found = new Map<string, { A?: string; B?: string }>();
  for (const name of file.tensors.keys()) {
    const { module, letter } = FACTOR.exec(name)?.groups ?? {};
    if (module === undefined || (letter !== 'A' && letter !== 'B')) throw strangeTensor(file.path, name);
    const pair = found.get(module) ?? {};
    if (pair[letter] !== undefined) throw tensorsError(file.path, `${pair[letter]} and ${name} are the same factor`);
    found.set(module, { ...pair, [letter]: name });
  }
  const whole = new Map<string, { A: string; B: string }>();
  for (const [module, { A, B }] of found) {
    if (A === undefined || B === undefined) {
      throw tensorsError(file.path, `${module} has lora_${A ? 'A' : 'B'} and no lora_${A ? 'B' : 'A'}`);
    }
    whole.set(module, { A, B });
  }
  return whole;
}

function checkShapes(module: string, a: readonly number[], b: readonly number[], rank: number, path: string): void {
  const shapes = `lora_A [${a.join(', ')}], lora_B [${b.join(', ')}]`;
  if (a.length !== 2 || b.length !== 2) throw tensorsError(path, `${module}: ${shapes}; only matrices can be merged`);
  if (a[0] === rank && b[1] === rank) return;
  if (a[1] === rank && b[0] === rank) throw tensorsError(path, `${module}: ${shapes}: lora_A and lora_B are swapped`);
  throw tensorsError(path, `${module}: ${shapes} do not have the rank ${rank} of adapter_config.json`);
}

function tensorsError(path: string, what: string): CheckpointError {
  return new CheckpointError('checkpoint/adapter-tensors', `${path}: ${what}`, { where: path });
}

function strangeTensor(path: string, name: string): CheckpointError {
  const kinds: [string, string][] = [
    ['lora_magnitude_vector', 'DoRA'],
    ['lora_embedding_', 'LoRA on an embedding'],
    ['lora_', 'a LoRA variant'],
    ['hada_', 'LoHa'],
    ['lokr_', 'LoKr'],
    ['ia3_', 'IA³'],
    ['.bias', 'a trained bias'],
  ];
  const kind = kinds.find(([part]) => name.includes(part))?.[1] ?? 'a module that was trained whole';
  const message = `${path}: ${name} belongs to ${kind}, which cannot be merged yet`;
  return new CheckpointError('checkpoint/adapter-kind', message, { where: path });
}
