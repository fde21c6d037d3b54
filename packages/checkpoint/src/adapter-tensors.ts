import type { AdapterConfig } from './adapter-config.ts';
import { parseAdapterTensor } from './adapter-tensor.ts';
import { CheckpointError } from './errors.ts';
import type { Safetensors } from './safetensors.ts';

/** Names of the tensors of one module. */
export interface ModuleTensors {
  readonly A: string;
  readonly B: string;
  readonly isEmbedding: boolean;
  readonly magnitude: string | undefined;
  readonly bias: string | undefined;
}

type Slot = 'A' | 'B' | 'magnitude' | 'bias';

/**
 * Names of a file's tensors by what they are for.
 * @throws {CheckpointError} `checkpoint/adapter-tensors` where a tensor lacks its partner, or a flag of the configuration
 *   its tensors; `checkpoint/adapter-kind`
 */
export function gatherTensors(
  file: Safetensors,
  config: AdapterConfig,
): {
  readonly modules: ReadonlyMap<string, ModuleTensors>;
  readonly parameters: ReadonlyMap<string, string>;
  readonly tokens: ReadonlyMap<string, string>;
} {
  const modules = new Map<string, { [slot in Slot]?: string } & { isEmbedding?: boolean }>();
  const parameters = new Map<string, string>();
  const tokens = new Map<string, string>();
  const put = (map: Map<string, string>, key: string, name: string): void => {
    const other = map.get(key);
    if (other !== undefined) throw tensorsError(file.path, `${other} and ${name} are the same tensor`);
    map.set(key, name);
  };
  for (const name of file.tensors.keys()) {
    const tensor = parseAdapterTensor(name, config.modulesToSave, file.path);
    const { module } = tensor;
    if (tensor.kind === 'parameter') {
      checkBias(tensor, config, name, file.path);
      put(parameters, `${module}.${tensor.parameter}`, name);
      continue;
    }
    if (tensor.kind === 'tokens') {
      put(tokens, module, name);
      continue;
    }
    const held = modules.get(module) ?? {};
    const slot = tensor.kind === 'factor' ? tensor.letter : tensor.kind === 'magnitude' ? 'magnitude' : 'bias';
    if (held[slot] !== undefined) throw tensorsError(file.path, `${held[slot]} and ${name} are the same tensor`);
    held[slot] = name;
    if (tensor.kind === 'factor' && tensor.isEmbedding) held.isEmbedding = true;
    modules.set(module, held);
  }
  if (modules.size + parameters.size + tokens.size === 0)
    throw tensorsError(file.path, 'there is not one pair of lora_A and lora_B');
  // Some are named for models of other kinds, and one that is there will do: PEFT names `classifier` and `score`.
  const { modulesToSave } = config;
  const saved = [...parameters.keys(), ...modules.keys()].some((name) =>
    modulesToSave.some((module) => `.${name}.`.includes(`.${module}.`)),
  );
  if (modulesToSave.length > 0 && !saved)
    throw tensorsError(file.path, `modules_to_save names ${modulesToSave.join(', ')}, and there are no weights of it`);
  return { modules: wholeModules(modules, config, file.path), parameters, tokens };
}

function wholeModules(
  found: ReadonlyMap<string, { [slot in Slot]?: string } & { isEmbedding?: boolean }>,
  config: AdapterConfig,
  path: string,
): ReadonlyMap<string, ModuleTensors> {
  const whole = new Map<string, ModuleTensors>();
  for (const [module, { A, B, magnitude, bias, isEmbedding = false }] of found) {
    if (A === undefined || B === undefined) {
      const has = A ? 'lora_A and no lora_B' : B ? 'lora_B and no lora_A' : 'neither lora_A nor lora_B';
      throw tensorsError(path, `${module} has ${has}`);
    }
    if (config.dora !== (magnitude !== undefined))
      throw tensorsError(path, `${module}: use_dora is ${config.dora}, and there is ${magnitude ?? 'no magnitude'}`);
    if (config.loraBias !== (bias !== undefined) && !isEmbedding)
      throw tensorsError(
        path,
        `${module}: lora_bias is ${config.loraBias}, and there is ${bias ?? 'no bias of lora_B'}`,
      );
    whole.set(module, { A, B, isEmbedding, magnitude, bias });
  }
  return whole;
}

/** A bias that the configuration says was not trained belongs to another adapter. */
function checkBias(
  { module, parameter }: { readonly module: string; readonly parameter: string },
  { bias, modulesToSave }: AdapterConfig,
  name: string,
  path: string,
): void {
  const isSaved = modulesToSave.some((saved) => `.${module}.`.includes(`.${saved}.`));
  if (parameter !== 'bias' || bias !== 'none' || isSaved || name.includes('.base_layer.')) return;
  throw tensorsError(path, `there is ${name}, and bias is "none" in adapter_config.json`);
}

function tensorsError(path: string, what: string): CheckpointError {
  return new CheckpointError('checkpoint/adapter-tensors', `${path}: ${what}`, { where: path });
}
