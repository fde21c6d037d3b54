import { readFile } from 'node:fs/promises';
import { CheckpointError } from './errors.ts';
import type { Targets } from './targets.ts';

export interface AdapterConfig {
  readonly rank: number;
  readonly alpha: number;
  /** Other ranks and alphas, by an expression for the module's path. */
  readonly rankPattern: ReadonlyMap<string, number>;
  readonly alphaPattern: ReadonlyMap<string, number>;
  /** What the adapter was trained against, as its author wrote it. */
  readonly baseModel: string | undefined;
  /** Scale α / √r in place of α / r. */
  readonly rsLora: boolean;
  readonly dora: boolean;
  /** The base's linear layers keep their weights `[in, out]`, as GPT-2's Conv1D does. */
  readonly fanInFanOut: boolean;
  /** B has a bias. */
  readonly loraBias: boolean;
  /** Which of the base's own biases were trained. */
  readonly bias: 'none' | 'all' | 'lora_only';
  readonly targets: Targets;
  readonly modulesToSave: readonly string[];
  /** Trained rows of embeddings, by the module's name or the end of it. */
  readonly tokenIndices: ReadonlyMap<string, readonly number[]>;
}

/** Variants that are no low-rank sum on the base as it was, with the values under which they are not in use. */
const VARIANTS: readonly (readonly [field: string, unused: readonly unknown[], called: string])[] = [
  ['use_qalora', [false], 'QALoRA'],
  ['use_bdlora', [false], 'block-diagonal LoRA'],
  // PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ change the base weights too, unless they were converted when saved.
  ['init_lora_weights', [true, false, 'gaussian', 'eva', 'orthogonal'], 'init_lora_weights'],
  ['layer_replication', [], 'layer_replication'],
  ['target_parameters', [], 'target_parameters'],
  ['alora_invocation_tokens', [], 'aLoRA'],
  ['arrow_config', [], 'Arrow'],
  ['kasa_config', [], 'KaSA'],
  ['velora_config', [], 'VeLoRA'],
  ['monteclora_config', [], 'MonteCLoRA'],
  ['ensure_weight_tying', [false], 'ensure_weight_tying'],
];

const UNDERSTOOD = ['use_rslora', 'use_dora'];

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
  refuseVariants(config, path);
  const read = new Fields(config, path);
  const bias = read.text('bias') ?? 'none';
  if (bias !== 'none' && bias !== 'all' && bias !== 'lora_only') throw read.wrong('bias', 'none, all or lora_only');
  return {
    rank: read.positive('r', config.get('r'), Number.isSafeInteger),
    alpha: read.positive('lora_alpha', config.get('lora_alpha')),
    rankPattern: read.numbers('rank_pattern', Number.isSafeInteger),
    alphaPattern: read.numbers('alpha_pattern'),
    baseModel: read.text('base_model_name_or_path'),
    rsLora: read.flag('use_rslora'),
    dora: read.flag('use_dora'),
    fanInFanOut: read.flag('fan_in_fan_out'),
    loraBias: read.flag('lora_bias'),
    bias,
    targets: {
      target: isNothing(config.get('target_modules')) ? undefined : read.names('target_modules'),
      exclude: read.names('exclude_modules'),
      layers: read.indices('layers_to_transform', config.get('layers_to_transform')),
      layersPattern: [read.names('layers_pattern')].flat(),
    },
    modulesToSave: [read.names('modules_to_save')].flat(),
    tokenIndices: read.tokens('trainable_token_indices'),
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

function refuseVariants(config: ReadonlyMap<string, unknown>, path: string): void {
  const refuse = (what: string): never => {
    const message = `${path}: ${what} cannot be merged`;
    const hint = 'save it as plain LoRA, or merge it where it was trained';
    throw new CheckpointError('checkpoint/adapter-kind', message, { where: path, hint });
  };
  const kind = config.get('peft_type');
  if (kind !== 'LORA') refuse(`peft_type ${JSON.stringify(kind)}`);
  for (const [field, unused, called] of VARIANTS) {
    const value = config.get(field);
    if (!isNothing(value) && !unused.includes(value)) refuse(`${called} = ${JSON.stringify(value)}`);
  }
  for (const [field, value] of config) {
    const isVariant = field.startsWith('use_') && value !== false && !isNothing(value);
    if (isVariant && !UNDERSTOOD.includes(field)) refuse(field);
  }
}

/** Reads fields by the type that PEFT gives them; null and absent are one. */
class Fields {
  readonly #config: ReadonlyMap<string, unknown>;
  readonly #path: string;

  constructor(config: ReadonlyMap<string, unknown>, path: string) {
    this.#config = config;
    this.#path = path;
  }

  wrong(field: string, expected: string, value: unknown = this.#config.get(field)): CheckpointError {
    const message = `${this.#path}: ${field} is ${JSON.stringify(value)}, not ${expected}`;
    return new CheckpointError('checkpoint/adapter-config', message, { where: this.#path });
  }

  positive(field: string, value: unknown, holds: (value: unknown) => boolean = Number.isFinite): number {
    if (typeof value === 'number' && value > 0 && holds(value)) return value;
    throw this.wrong(field, 'a number above 0', value);
  }

  text(field: string): string | undefined {
    const value = this.#config.get(field);
    if (isNothing(value)) return undefined;
    if (typeof value !== 'string') throw this.wrong(field, 'a text');
    return value;
  }

  flag(field: string): boolean {
    const value = this.#config.get(field) ?? false;
    if (typeof value !== 'boolean') throw this.wrong(field, 'true or false');
    return value;
  }

  /** One text, or a list of them. */
  names(field: string): string | readonly string[] {
    const value = this.#config.get(field);
    if (isNothing(value)) return [];
    if (typeof value === 'string') return value;
    if (Array.isArray(value) && value.every((name): name is string => typeof name === 'string')) return value;
    throw this.wrong(field, 'names or an expression');
  }

  numbers(field: string, holds: (value: unknown) => boolean = Number.isFinite): ReadonlyMap<string, number> {
    const value = this.#config.get(field);
    if (isNothing(value)) return new Map();
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw this.wrong(field, 'a map');
    return new Map(
      Object.entries(value).map(([key, item]) => [key, this.positive(`${field}.${key}`, item, holds)] as const),
    );
  }

  indices(field: string, value: unknown): readonly number[] {
    if (isNothing(value)) return [];
    const list: readonly unknown[] = Array.isArray(value) ? value : [value];
    if (!list.every((item): item is number => Number.isSafeInteger(item) && Number(item) >= 0))
      throw this.wrong(field, 'whole numbers from 0', value);
    return list;
  }

  /** A bare list is for the input embedding, which every family that PEFT knows calls `embed_tokens` or the like. */
  tokens(field: string): ReadonlyMap<string, readonly number[]> {
    const value = this.#config.get(field);
    if (isNothing(value)) return new Map();
    if (Array.isArray(value)) return new Map([['', this.indices(field, value)]]);
    if (typeof value !== 'object' || value === null) throw this.wrong(field, 'a list or a map of lists');
    return new Map(Object.entries(value).map(([key, list]) => [key, this.indices(`${field}.${key}`, list)] as const));
  }
}

function isNothing(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}
