import { PackError } from '../errors.ts';

/** Where an image lies: `[http[s]://]host[:port]/name[:tag][@digest]`. */
export interface Reference {
  /** As it was written, without the scheme. */
  readonly text: string;
  /** `host[:port]`, as credentials are kept for it. */
  readonly host: string;
  /** `https://host[:port]`. */
  readonly origin: string;
  readonly name: string;
  readonly tag: string;
  /** If the reference pins one. */
  readonly digest: string | undefined;
}

/** @see OCI distribution-spec 1.1, "Pulling manifests": the grammar of names and tags */
const grammar =
  /^(?:(https?):\/\/)?([A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?)\/([a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$/;

/**
 * The registry must be named: nothing is fetched from a place that nobody wrote down. Without a scheme it is HTTPS,
 * on this machine HTTP.
 * @throws {PackError} `pack/reference`
 */
export function parseReference(text: string): Reference {
  const [, scheme, host = '', name = '', tag, digest] = (text.length < 1000 && grammar.exec(text)) || [];
  if (host === '' || (scheme === undefined && !/[.:]|^localhost$/.test(host)))
    throw new PackError('pack/reference', `${JSON.stringify(text.slice(0, 200))} names no image in a registry`, {
      where: text.slice(0, 200),
      hint: 'write HOST[:PORT]/NAME[:TAG], such as registry.example.com/models/labels:1.0.0',
    });
  const isLocal = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:|$)/.test(host);
  // Docker Hub's API has a host of its own.
  const api = host === 'docker.io' ? 'registry-1.docker.io' : host;
  return {
    text: text.replace(/^https?:\/\//, ''),
    host,
    origin: `${scheme ?? (isLocal ? 'http' : 'https')}://${api}`,
    name,
    tag: tag ?? 'latest',
    digest,
  };
}
