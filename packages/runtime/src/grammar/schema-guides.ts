import type { TextTokenizer } from '../tokenizer.ts';
import { Automaton } from './automaton.ts';
import { Constraint } from './constraint.ts';
import { jsonSchemaGrammar } from './json-schema.ts';
import { TokenGuide } from './token-guide.ts';
import { type TokenTrie, tokenTrie } from './token-trie.ts';

/** Schemas remembered with what was found out about them. */
const MOST_GUIDES = 8;

/** What a tokenizer's tokens may do under the schemas that are asked for. */
export class SchemaGuides {
  private readonly tokenizer: TextTokenizer;
  private readonly guides = new Map<string, TokenGuide>();
  private trie: TokenTrie | undefined;

  constructor(tokenizer: TextTokenizer) {
    this.tokenizer = tokenizer;
  }

  /**
   * A text that keeps to a schema, at its beginning.
   * @param schema JSON Schema, of what `jsonSchemaGrammar` understands
   * @throws {RuntimeError} `runtime/schema`, `runtime/tokenizer`
   */
  begin(schema: unknown): Constraint {
    const { eosIds } = this.tokenizer;
    const bytes = this.tokenizer.bytes();
    const key = JSON.stringify(schema) ?? '';
    const guide = this.guides.get(key) ?? this.make(schema, bytes);
    // Used last, forgotten last.
    this.guides.delete(key);
    this.guides.set(key, guide);
    for (const oldest of this.guides.keys()) if (this.guides.size > MOST_GUIDES) this.guides.delete(oldest);
    return new Constraint(guide, bytes, eosIds);
  }

  private make(schema: unknown, bytes: readonly (Uint8Array | undefined)[]): TokenGuide {
    const automaton = new Automaton(jsonSchemaGrammar(schema));
    // A token that ends the text is no text, whatever it looks like.
    this.trie ??= tokenTrie(bytes.map((one, id) => (this.tokenizer.eosIds.has(id) ? undefined : one)));
    return new TokenGuide(automaton, this.trie, bytes.length);
  }
}
