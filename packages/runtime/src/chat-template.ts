import { Template } from '@huggingface/jinja';
import { within } from './bounded.ts';
import { RuntimeError } from './errors.ts';

/** One turn of a conversation. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, or what else the model's template knows. */
  readonly role: string;
  readonly content: string;
}

/** Far more than any template takes: what is longer is a loop without end. */
const MOST_MS = 2000;
const MOST_CHARACTERS = 1 << 20;

/**
 * Text for a model from a conversation, with the beginning of its answer.
 * @param template of the model, in Jinja
 * @param special tokens that templates name: `bos_token` and the like
 * @throws {RuntimeError} `runtime/chat` where the template is not Jinja, does not take these messages, or takes too long
 */
export function renderChat(
  template: string,
  messages: readonly ChatMessage[],
  special: { readonly [name: string]: string },
): string {
  try {
    const context = { ...special, messages: messages.map((message) => ({ ...message })), add_generation_prompt: true };
    return within(
      MOST_MS,
      () => new Template(template).render(context).slice(0, MOST_CHARACTERS),
      () => new Error(`takes longer than ${MOST_MS} ms`),
    );
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n', 1)[0] : String(cause);
    throw new RuntimeError('runtime/chat', `the model's chat template: ${reason}`, { where: 'chat_template', cause });
  }
}

/**
 * `chat_template.jinja`, or `chat_template` of tokenizer_config.json: text, or a list of named ones of which `default`
 * counts.
 */
export function chatTemplateOf(file: string | undefined, config: unknown): string | undefined {
  if (file !== undefined) return file;
  if (typeof config === 'string') return config;
  if (!Array.isArray(config)) return undefined;
  const named = (config as readonly { readonly name?: unknown; readonly template?: unknown }[]).find(
    (one) => one?.name === 'default',
  );
  return typeof named?.template === 'string' ? named.template : undefined;
}
