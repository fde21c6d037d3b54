import { Template } from '@huggingface/jinja';
import { within } from './bounded.ts';
import { RuntimeError } from './errors.ts';

/** One turn of a conversation. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, or what else the model's template knows. */
  readonly role: string;
  readonly content: string;
}

/** A noncharacter (Unicode 23.7): no text has it. */
const BREAK = '\ufdd0';

/**
 * Messages in whose contents no special token stands: each is cut by a mark, so that what a user writes begins no turn
 * and ends none.
 * @param special texts of the tokenizer's special tokens
 */
export function cutSpecial(messages: readonly ChatMessage[], special: readonly string[]): readonly ChatMessage[] {
  // Case does not matter to a tokenizer that lowers it first.
  const tokens = special
    .filter((text) => text.length > 1)
    .map((text) => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  if (tokens.length === 0) return messages;
  const any = new RegExp(tokens.toSorted((a, b) => b.length - a.length).join('|'), 'gi');
  return messages.map((message) => {
    let { content } = message;
    // Again, until there is none: they may overlap.
    while (content.search(any) >= 0) content = content.replace(any, (token) => token[0] + BREAK + token.slice(1));
    return { ...message, content };
  });
}

/** A rendered conversation in pieces that are encoded each by itself: between two of them nothing joins to a token. */
export function piecesOf(rendered: string): readonly string[] {
  return rendered.split(BREAK).filter((piece) => piece !== '');
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
