type Json = { readonly [key: string]: unknown };

/**
 * tokenizer.json that puts the beginning-of-text token first by itself, where tokenizer_config.json only says that it
 * should stand there (`add_bos_token`): transformers.js does not read that, and would write other texts than ours.
 * @param leading the token and its id; undefined: the model begins with none
 */
export function withLeadingToken(
  tokenizer: Json,
  leading: { readonly token: string; readonly id: number } | undefined,
): Json {
  const before = tokenizer['post_processor'];
  if (leading === undefined || JSON.stringify(before ?? null).includes('"TemplateProcessing"')) return tokenizer;
  const { token, id } = leading;
  const special = { SpecialToken: { id: token, type_id: 0 } };
  const text = (name: string) => ({ Sequence: { id: name, type_id: 0 } });
  const template = {
    type: 'TemplateProcessing',
    single: [special, text('A')],
    pair: [special, text('A'), special, text('B')],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
  const after =
    before === undefined || before === null ? template : { type: 'Sequence', processors: [before, template] };
  return { ...tokenizer, post_processor: after };
}
