import { createHash } from 'node:crypto';
import { AgentError } from '../errors.ts';
import type { Disk } from '../ports.ts';

/** Grows when the meaning of what is stored changes. */
const FORMAT = 1;
const header = /^flotilla-agent (\d{1,9}) (\d{1,15}) ([0-9a-f]{64})\n/;

/**
 * A small JSON document in two copies (`path.1`, `path.2`), each under a checksum and a generation number. One copy is
 * whole at any moment, whatever the disk tears.
 */
export interface Document {
  /** `damaged`: there are copies, and none is good. @throws {AgentError} `agent/state-newer` */
  read(): Promise<{ readonly body: unknown } | 'absent' | 'damaged'>;
  write(body: unknown): Promise<void>;
}

export function document(disk: Disk, path: string): Document {
  const copies = [`${path}.1`, `${path}.2`];
  let generation: number | undefined;
  const readAll = async (): Promise<readonly (Copy | 'absent' | 'damaged')[]> =>
    Promise.all(copies.map(async (copy) => parseCopy(await disk.read(copy), copy)));
  return {
    async read() {
      const found = await readAll();
      const good = found.filter((copy) => typeof copy === 'object');
      const newest = good.sort((one, other) => other.generation - one.generation)[0];
      generation = newest?.generation ?? 0;
      if (newest !== undefined) return { body: newest.body };
      return found.every((copy) => copy === 'absent') ? 'absent' : 'damaged';
    },
    async write(body) {
      if (generation === undefined) await this.read();
      generation = (generation ?? 0) + 1;
      const bytes = encodeCopy(body, generation);
      for (const copy of copies) await disk.write(copy, bytes);
    },
  };
}

interface Copy {
  readonly generation: number;
  readonly body: unknown;
}

function encodeCopy(body: unknown, generation: number): Uint8Array {
  const text = JSON.stringify(body);
  return new TextEncoder().encode(`flotilla-agent ${FORMAT} ${generation} ${checksum(generation, text)}\n${text}`);
}

function parseCopy(bytes: Uint8Array | undefined, path: string): Copy | 'absent' | 'damaged' {
  if (bytes === undefined) return 'absent';
  const text = new TextDecoder().decode(bytes);
  const [head = '', format, generation, sum] = header.exec(text) ?? [];
  if (head === '') return 'damaged';
  if (Number(format) > FORMAT)
    throw new AgentError('agent/state-newer', `${path} has format ${format}; this agent knows ${FORMAT}`, {
      where: path,
      hint: 'run the newer agent, or empty the data folder to begin anew',
    });
  const body = text.slice(head.length);
  if (sum !== checksum(Number(generation), body)) return 'damaged';
  return { generation: Number(generation), body: JSON.parse(body) as unknown };
}

const checksum = (generation: number, text: string): string =>
  createHash('sha256').update(`${generation}\n${text}`).digest('hex');
