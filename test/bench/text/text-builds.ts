import { copyFile, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { applyRecipe, parseRecipe } from '@flotilla/compiler';
import { LOWERING_VERSION, lowerModel } from '@flotilla/lowering';
import { type Model, openModel, writeModel } from '@flotilla/onnx';
import { decoderFeeds, type SessionOptions } from '@flotilla/runtime';
import { BIG_LLAMA, buildLlama, ROPE_THETA, RMS_EPSILON } from '../../models/random-llama.ts';
import { root } from '../../tiers/run.ts';

/** A model file as it is loaded. */
export interface TextBuild {
  readonly name: string;
  readonly path: string;
  readonly options: SessionOptions;
}

const fixture = join(root, 'test', 'fixtures', 'models', 'wordnet-llama-4m');
const external = { location: 'model.onnx.data', minBytes: 4096 };
const CALIBRATION_SAMPLES = 4;

/**
 * The random-weight Llama as a Hugging Face folder in `folder`/fp32, left as it is where it is there already: the model,
 * config.json, and the fixture's tokenizer.
 */
export async function writeTextModel(folder: string): Promise<string> {
  const dir = join(folder, 'fp32');
  const done = join(dir, 'config.json');
  if (await exists(done)) return dir;
  await mkdir(dir, { recursive: true });
  await mkdir(join(dir, 'onnx'));
  // As transformers.js names external data.
  const externalData = { ...external, location: 'model.onnx_data' };
  await writeModel(buildLlama(BIG_LLAMA), join(dir, 'onnx', 'model.onnx'), { externalData });
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'])
    await copyFile(join(fixture, name), join(dir, name));
  await writeFile(done, JSON.stringify(config(), undefined, 2));
  return dir;
}

function config() {
  const { hidden, layers, heads, kvHeads, ffn, vocabulary, positions } = BIG_LLAMA;
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: vocabulary,
    hidden_size: hidden,
    intermediate_size: ffn,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    max_position_embeddings: positions,
    rms_norm_eps: RMS_EPSILON,
    rope_theta: ROPE_THETA,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
    pad_token_id: 0,
    torch_dtype: 'float32',
    'transformers.js_config': { dtype: 'fp32', use_external_data_format: true },
  };
}

interface Variant {
  readonly cache?: 'fp32' | 'int8';
  readonly symmetric?: boolean;
}

/** What int4 of these weights is made of; weights are random, so nothing is fitted to them. */
const recipe = (block: number, { cache = 'fp32', symmetric = false }: Variant) =>
  parseRecipe(
    [
      'name: text',
      'passes:',
      `  - { pass: convert-int4, block: ${block}, method: rtn, clip: none, symmetric: ${symmetric} }`,
      ...(cache === 'int8' ? [`  - { pass: quantize-kv-cache, samples: ${CALIBRATION_SAMPLES} }`] : []),
    ].join('\n'),
  );

/**
 * Everything that is compared: as exported, the same in fused operators, int4 at three block lengths, without zero points
 * (as llama.cpp's Q4_0 is), and with an int8 cache.
 */
export async function textBuilds(folder: string, say: (line: string) => void): Promise<readonly TextBuild[]> {
  const source = join(await writeTextModel(folder), 'onnx', 'model.onnx');
  const builds: TextBuild[] = [{ name: 'fp32', path: source, options: { threads: 1 } }];
  const add = async (name: string, make: (model: Model) => Model | Promise<Model>) => {
    // A folder that is kept may hold what an earlier version lowered.
    const path = join(folder, `${name.replaceAll(' ', '-')}-v${LOWERING_VERSION}`, 'model.onnx');
    const lower = async (model: Model) => lowerModel(model, await loadBoard('host'), { cache: 'in-place' });
    if (!(await exists(path))) {
      say(`${name} …`);
      const { model } = await lower(await make(await openModel(source)));
      await mkdir(join(path, '..'), { recursive: true });
      await writeModel(model, path, { externalData: external });
    }
    // How it is loaded depends on the board alone: no weight here is int8 behind a QuantizeLinear.
    const { session } = await lower(await openModel(source));
    builds.push({ name, path, options: { threads: 1, config: session } });
  };
  const quantize = async (model: Model, block: number, variant: Variant = {}) =>
    (await applyRecipe(model, recipe(block, variant), { calibrationData: madeUpTexts(model) })).model;
  await add('fp32 fused', (model) => model);
  for (const block of [32, 64, 128]) await add(`int4 b${block}`, (model) => quantize(model, block));
  await add('int4 b32 symmetric', (model) => quantize(model, 32, { symmetric: true }));
  await add('int4 b64 kv8', (model) => quantize(model, 64, { cache: 'int8' }));
  return builds;
}

function madeUpTexts({ graph }: Model) {
  const inputs = graph.inputs.map(({ name, type }) => ({
    name,
    dtype: type?.dtype ?? '',
    dims: (type?.dims ?? []).map((dim) => dim ?? ''),
  }));
  return {
    async *samples() {
      for (let i = 0; i < CALIBRATION_SAMPLES; i++) yield { inputs: decoderFeeds(inputs, someTokens(64, i)) };
    },
  };
}

/** Token ids that are the same at each call. */
export function someTokens(count: number, from = 0): readonly number[] {
  return Array.from({ length: count }, (_, i) => ((i + from) * 7919 + 13) % BIG_LLAMA.vocabulary);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
