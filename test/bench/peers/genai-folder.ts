import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { applyRecipe, parseRecipe } from '@flotilla/compiler';
import { lowerModel } from '@flotilla/lowering';
import { openModel, writeModel } from '@flotilla/onnx';

/**
 * A Llama folder as onnxruntime-genai reads it: 4-bit weights in blocks of 32 and fused attention whose whole cache comes
 * out, which is the graph that its own builder makes.
 */
export async function writeGenaiFolder(fp32: string, out: string): Promise<void> {
  await mkdir(out, { recursive: true });
  const recipe = parseRecipe('name: q4\npasses:\n  - { pass: convert-int4, block: 32, method: rtn, clip: none }\n');
  const { model } = await applyRecipe(await openModel(join(fp32, 'onnx', 'model.onnx')), recipe);
  const { model: lowered } = lowerModel(model, await loadBoard('host'), { cache: 'full' });
  await writeModel(lowered, join(out, 'model.onnx'), {
    externalData: { location: 'model.onnx.data', minBytes: 4096 },
  });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) await copyFile(join(fp32, name), join(out, name));
  const config = JSON.parse(await readFile(join(fp32, 'config.json'), 'utf8')) as { readonly [key: string]: number };
  await writeFile(join(out, 'genai_config.json'), JSON.stringify(genaiConfig(config), undefined, 2));
}

function genaiConfig(config: { readonly [key: string]: number }): object {
  const { hidden_size: hidden = 0, num_attention_heads: heads = 1 } = config;
  return {
    model: {
      type: 'llama',
      bos_token_id: config['bos_token_id'],
      // One that is hardly ever made: little ends the text early.
      eos_token_id: (config['vocab_size'] ?? 0) - 1,
      pad_token_id: config['pad_token_id'],
      context_length: config['max_position_embeddings'],
      vocab_size: config['vocab_size'],
      decoder: {
        session_options: { intra_op_num_threads: 1, inter_op_num_threads: 1, provider_options: [] },
        filename: 'model.onnx',
        head_size: hidden / heads,
        hidden_size: hidden,
        num_attention_heads: heads,
        num_hidden_layers: config['num_hidden_layers'],
        num_key_value_heads: config['num_key_value_heads'],
        inputs: {
          input_ids: 'input_ids',
          attention_mask: 'attention_mask',
          position_ids: 'position_ids',
          past_key_names: 'past_key_values.%d.key',
          past_value_names: 'past_key_values.%d.value',
        },
        outputs: {
          logits: 'logits',
          present_key_names: 'present.%d.key',
          present_value_names: 'present.%d.value',
        },
      },
    },
    search: { do_sample: false, max_length: config['max_position_embeddings'], past_present_share_buffer: true },
  };
}
