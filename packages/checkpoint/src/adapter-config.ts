import { readFile } from 'node:fs/promises';
import { CheckpointError } from './errors.ts';

export interface AdapterConfig {
  readonly rank: number;
  readonly alpha: number;
  /** What the adapter was trained against, as its author wrote it. */
  readonly baseModel: string | undefined;
}

/** Fields that change what the adapter does, with the values under which it is plain LoRA. */
const PLAIN: readonly (readonly [field: string, plain: readonly unknown[], called: string])[] = [
  ['use_rslora', [false], 'rsLoRA'],
  ['use_dora', [false], 'DoRA'],
  ['use_qalora', [false], 'QALoRA'],
  ['lora_bias', [false], 'lora_bias'],
  ['fan_in_fan_out', [false], 'fan_in_fan_out (Conv1D layers)'],
  ['bias', ['none'], 'trained biases'],
  // PiSSA, OLoRA, CorDA and LoftQ change the base weights too, unless they were converted when saved.
  ['init_lora_weights', [true, false, 'gaussian', 'eva', 'orthogonal'], 'init_lora_weights'],
  ['layer_replication', [], 'layer_replication'],
  ['trainable_token_indices', [], 'trainable_token_indices'],
  ['target_parameters', [], 'target_parameters'],
  ['modules_to_save', [], 'modules_to_save'],
  ['rank_pattern', [], 'rank_pattern'],
  ['alpha_pattern', [], 'alpha_pattern'],
  ['alora_invocation_tokens', [], 'aLoRA'],
];

/**
 * Reads `adapter_config.json`.
 * @throws {CheckpointError} `checkpoint/missing`, `checkpoint/adapter-config`; `checkpoint/adapter-kind` naming the variant
 */
export async function readAdapterConfig(path: string): Promise<AdapterConfig> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const message = `cannot read ${path}: ${cause.code ?? cause.message}`;
    throw new CheckpointError('checkpoint/missing', message, { where: path, cause });
  });
  const config = parseConfig(text, path);
  const kind = config.get('peft_type');
  if (kind !== 'LORA') throw kindError(path, `peft_type ${JSON.stringify(kind)}`);
  for (const [field, plain, called] of PLAIN) {
    const value = config.get(field);
    if (!isNothing(value) && !plain.includes(value)) throw kindError(path, `${called} = ${JSON.stringify(value)}`);
  }
  for (const [field, value] of config) {
    if (field.startsWith('use_') && value === true) throw kindError(path, field);
  }
  const baseModel = config.get('base_model_name_or_path');
  return {
    rank: positive(config, 'r', path, Number.isSafeInteger),
    alpha: positive(config, 'lora_alpha', path, Number.isFinite),
    baseModel: typeof baseModel === 'string' ? baseModel : undefined,
  };
}

function parseConfig(text: string, path: string): ReadonlyMap<string, unknown> {
  try {
    const json: unknown = JSON.parse(text); // Python's NaN and Infinity are not JSON and fail here
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return new Map(Object.entries(json));
  } catch (cause) {
    throw new CheckpointError('checkpoint/adapter-config', `${path} is not JSON`, { where: path, cause });
  }
  throw new CheckpointError('checkpoint/adapter-config', `${path} is not a JSON object`, { where: path });
}

function positive(
  config: ReadonlyMap<string, unknown>,
  field: string,
  path: string,
  holds: (value: unknown) => boolean,
): number {
  const value = config.get(field);
  if (typeof value === 'number' && value > 0 && holds(value)) return value;
  const message = `${path}: ${field} is ${JSON.stringify(value)}, not a number above 0`;
  throw new CheckpointError('checkpoint/adapter-config', message, { where: path });
}

function isNothing(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}

function kindError(path: string, what: string): CheckpointError {
  const message = `${path}: ${what} cannot be merged yet; only plain LoRA can`;
  return new CheckpointError('checkpoint/adapter-kind', message, { where: path });
}
