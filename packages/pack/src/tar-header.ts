import { PackError } from './errors.ts';

/** @see POSIX.1-2017, pax, "ustar Interchange Format" */
export const blockBytes = 512;
/** Eleven octal digits; larger sizes need extensions that packs do not use. */
export const maxTarEntryBytes = 8 ** 11 - 1;

export interface TarEntry {
  readonly kind: 'file' | 'directory';
  readonly name: string;
  readonly bytes: number;
}

/** A header for a regular file that says nothing of its maker: mode 0644, owner 0, time 0. */
export function encodeTarHeader(name: string, bytes: number): Uint8Array {
  if (bytes > maxTarEntryBytes)
    throw new PackError('pack/too-large', `${name}: ${bytes} bytes do not fit into a tar; write a directory`, {
      where: name,
    });
  const header = Buffer.alloc(blockBytes);
  header.write(name, 0, 100, 'latin1');
  header.write('0000644\0', 100, 'latin1');
  header.write('0000000\0', 108, 'latin1');
  header.write('0000000\0', 116, 'latin1');
  header.write(`${octal(bytes, 11)}\0`, 124, 'latin1');
  header.write('00000000000\0', 136, 'latin1');
  header.write('0', 156, 'latin1');
  header.write('ustar\u000000', 257, 'latin1');
  header.write('0000000\0', 329, 'latin1');
  header.write('0000000\0', 337, 'latin1');
  header.write(`${octal(checksum(header), 6)}\0 `, 148, 'latin1');
  return header;
}

/** @throws {PackError} `pack/tar`, `pack/unsafe-entry`: anything that is not a plain file or directory, whatever asks for it */
export function decodeTarHeader(header: Uint8Array, at: number): TarEntry {
  const block = Buffer.from(header.buffer, header.byteOffset, header.byteLength);
  if (number(block, 148, 8, at) !== checksum(block)) throw damaged(at, 'its checksum is wrong');
  // GNU tar writes "ustar  \0"; before POSIX there was no magic at all, and no type could be told.
  if (block.toString('latin1', 257, 262) !== 'ustar') throw damaged(at, 'it is not in ustar format');
  const posix = block[262] === 0;
  const prefix = posix ? cstring(block, 345, 155) : '';
  const name = `${prefix === '' ? '' : `${prefix}/`}${cstring(block, 0, 100)}`;
  const kind = kindOf(block.toString('latin1', 156, 157), name, at);
  return { kind, name, bytes: number(block, 124, 12, at) };
}

function kindOf(type: string, name: string, at: number): 'file' | 'directory' {
  const quoted = JSON.stringify(name);
  switch (type) {
    case '0':
    case '\0':
      return 'file';
    case '5':
      return 'directory';
    case '1':
      throw unsafe(at, `${quoted} is a hard link`);
    case '2':
      throw unsafe(at, `${quoted} is a symbolic link`);
    case '3':
    case '4':
    case '6':
      throw unsafe(at, `${quoted} is a device or FIFO`);
    case 'x':
    case 'g':
      throw damaged(at, 'it uses PAX headers, which can override a size or name');
    case 'S':
      throw damaged(at, `${quoted} is a sparse file`);
    default:
      throw damaged(at, `${quoted} has the unknown type ${JSON.stringify(type)}`);
  }
}

/** Octal digits, closed by a space or NUL. GNU's base-256 numbers (first bit set: 8 GiB and more) are not taken. */
function number(block: Buffer, offset: number, length: number, at: number): number {
  if (((block[offset] ?? 0) & 0x80) !== 0) throw damaged(at, 'a size of 8 GiB or more, or a negative one');
  const digits = /^ *([0-7]+)[ \0]*$/.exec(block.toString('latin1', offset, offset + length))?.[1];
  if (digits === undefined) throw damaged(at, 'a field is not an octal number');
  return Number.parseInt(digits, 8);
}

function checksum(block: Buffer): number {
  let sum = 8 * 0x20; // the field itself counts as spaces
  for (const [index, byte] of block.entries()) if (index < 148 || index >= 156) sum += byte;
  return sum;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}

function cstring(block: Buffer, offset: number, length: number): string {
  const text = block.toString('latin1', offset, offset + length);
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

function damaged(at: number, problem: string): PackError {
  return new PackError('pack/tar', `tar entry at byte ${at}: ${problem}`, { where: `byte ${at}` });
}

function unsafe(at: number, problem: string): PackError {
  return new PackError('pack/unsafe-entry', `tar entry at byte ${at}: ${problem}`, { where: `byte ${at}` });
}
