import { encodeHead } from './wire.ts';

/** Where a range of bytes can be read from; a file, a buffer or external data. */
export interface Readable {
  read(start: number, end: number): Uint8Array;
}

interface Slice {
  readonly source: Readable;
  readonly start: number;
  end: number;
}

/** Bytes to be written, as pieces: those that were not edited stay ranges of their source until the moment they are copied. */
export class Rope {
  size = 0;
  readonly #pieces: (Uint8Array | Slice)[] = [];

  add(bytes: Uint8Array): this {
    if (bytes.length > 0) this.#pieces.push(bytes);
    this.size += bytes.length;
    return this;
  }

  /** Neighbouring ranges of one source become one, so an untouched model is a single copy. */
  addRange(source: Readable, start: number, end: number): this {
    if (end <= start) return this;
    const last = this.#pieces.at(-1);
    if (last !== undefined && 'source' in last && last.source === source && last.end === start) last.end = end;
    else this.#pieces.push({ source, start, end });
    this.size += end - start;
    return this;
  }

  addRope(rope: Rope): this {
    for (const piece of rope.#pieces) {
      if ('source' in piece) this.addRange(piece.source, piece.start, piece.end);
      else this.add(piece);
    }
    return this;
  }

  /** A length-delimited field. */
  addField(number: number, content: Rope): this {
    return this.add(encodeHead(number, content.size)).addRope(content);
  }

  /** In pieces of at most `chunkBytes`, read as they are asked for. */
  *chunks(chunkBytes = 4 * 1024 * 1024): Generator<Uint8Array> {
    for (const piece of this.#pieces) {
      if (!('source' in piece)) yield piece;
      else
        for (let at = piece.start; at < piece.end; at += chunkBytes)
          yield piece.source.read(at, Math.min(piece.end, at + chunkBytes));
    }
  }

  toBytes(): Uint8Array {
    const bytes = new Uint8Array(this.size);
    let at = 0;
    for (const chunk of this.chunks()) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  }
}
