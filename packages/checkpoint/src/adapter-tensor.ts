import { CheckpointError } from './errors.ts';

/** What a tensor of an adapter is for, by its name. */
export type AdapterTensor =
  | { readonly kind: 'factor'; readonly module: string; readonly letter: 'A' | 'B'; readonly isEmbedding: boolean }
  | { readonly kind: 'factor-bias'; readonly module: string }
  | { readonly kind: 'magnitude'; readonly module: string }
  | { readonly kind: 'tokens'; readonly module: string }
  /** A parameter of the base that was trained whole, or saved along. */
  | { readonly kind: 'parameter'; readonly module: string; readonly parameter: string };

/** PEFT saves embeddings along when it thinks that they were resized or targeted. */
const SAVED_ALONG = /(?:^|\.)(?:embed_tokens|lm_head)$/;

/**
 * PEFT puts the wrapper's names before the model's, and some versions the adapter's own name after `lora_A`.
 * @throws {CheckpointError} `checkpoint/adapter-kind` for a tensor of another method, or of a module that no field names
 */
export function parseAdapterTensor(name: string, wholeModules: readonly string[], path: string): AdapterTensor {
  const bare = name.replace(/^(?:base_model\.model\.)+/, '').replaceAll('_orig_mod.', '');
  const factor = /^(.+)\.lora_(embedding_)?([AB])(?:\.[^.]+)??(?:\.(weight|bias))?$/.exec(bare);
  if (factor) {
    const [, module = '', embedding, letter, what] = factor;
    if (what === 'bias' && letter === 'B') return { kind: 'factor-bias', module };
    if (what !== 'bias')
      return { kind: 'factor', module, letter: letter === 'A' ? 'A' : 'B', isEmbedding: embedding !== undefined };
  }
  const magnitude = /^(.+)\.lora_magnitude_vector(?:\.[^.]+){0,2}$/.exec(bare)?.[1];
  if (magnitude !== undefined) return { kind: 'magnitude', module: magnitude };
  const tokens = /^(.+?)(?:\.token_adapter)?\.trainable_tokens_delta(?:\.[^.]+)?$/.exec(bare)?.[1];
  if (tokens !== undefined) return { kind: 'tokens', module: tokens };
  const whole = /^(.+?)(?:\.base_layer|\.modules_to_save(?:\.[^.]+)?)*\.([^.]+)$/.exec(bare);
  const [, module = '', parameter = ''] = whole ?? [];
  const isBias = parameter === 'bias';
  const isNamed = wholeModules.some((saved) => `.${module}.`.includes(`.${saved}.`));
  if (
    whole &&
    !bare.includes('lora_') &&
    (isNamed || isBias || bare.includes('.base_layer.') || SAVED_ALONG.test(module))
  )
    return { kind: 'parameter', module, parameter };
  throw strangeTensor(path, name);
}

function strangeTensor(path: string, name: string): CheckpointError {
  const kinds: [string, string][] = [
    ['lora_diag', 'KaSA'],
    ['lora_', 'a variant of LoRA that is not known here'],
    ['hada_', 'LoHa'],
    ['lokr_', 'LoKr'],
    ['ia3_', 'IA³'],
    ['oft_', 'OFT'],
    ['vera_', 'VeRA'],
  ];
  const kind = kinds.find(([part]) => name.includes(part))?.[1] ?? 'a module that modules_to_save does not name';
  const message = `${path}: ${name} belongs to ${kind}, and cannot be merged`;
  return new CheckpointError('checkpoint/adapter-kind', message, { where: path });
}
