import { PackError } from '../errors.ts';

/** The body of a response that has no reason to be long. @throws {PackError} `pack/registry` */
export async function readSmallBytes(response: Response, maxBytes = 1 << 20): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += part.length;
    if (bytes > maxBytes)
      throw new PackError('pack/registry', `${response.url}: an answer of more than ${maxBytes} bytes`, {
        where: response.url,
      });
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts));
}

export async function readSmallBody(response: Response): Promise<string> {
  return new TextDecoder().decode(await readSmallBytes(response));
}
