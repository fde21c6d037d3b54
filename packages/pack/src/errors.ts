/** Codes travel in reports and `--json`: never renamed. */
export type PackErrorCode =
  /** The path is neither an OCI image layout nor one tar of it, or it holds no Flotilla model; give a pack made by `flotilla compile`. */
  | 'pack/not-a-pack'
  /** There is nothing at this path; check the path. */
  | 'pack/not-found'
  /** `index.json` is damaged, nests another index or names other than one manifest; copy one image only, or fetch the pack again. */
  | 'pack/index'
  /** A digest is not `sha256:` and 64 lower-case hexadecimal digits; fetch the pack again from its maker. */
  | 'pack/digest-invalid'
  /** A file's bytes are not those its digest names: it was damaged or altered; fetch the pack again. */
  | 'pack/digest-mismatch'
  /** A file is shorter or longer than the pack says; fetch the pack again. */
  | 'pack/size-mismatch'
  /** A file that the pack lists is not in it; fetch the pack again. */
  | 'pack/missing-blob'
  /** The pack carries bytes that no digest covers: a file nobody lists, or data after the archive's end; fetch the pack again. */
  | 'pack/extra-data'
  /** The manifest is not the one that the pack's config and signature give: a member was altered; fetch the pack again. */
  | 'pack/manifest'
  /** The pack's config is damaged or breaks a rule of the format; the message names the member. */
  | 'pack/config'
  /** A layer is compressed, which packs never are; copy it without compression (`skopeo copy --preserve-digests`). */
  | 'pack/compressed'
  /** A symbolic link, hard link, device, FIFO or a name that leads outside; packs hold regular files only. */
  | 'pack/unsafe-entry'
  /** The tar ends in the middle of an entry; fetch the pack again. */
  | 'pack/truncated'
  /** The tar uses what packs never use (PAX size, sparse files, sizes of 8 GiB and more) or is damaged; make it again. */
  | 'pack/tar'
  /** Over a documented limit; the message names it. */
  | 'pack/too-large'
  /** The pack holds no file of this path; `flotilla pack ls` lists them. */
  | 'pack/no-such-file'
  /** The pack carries no signature and one is required; sign it with `flotilla pack sign`. */
  | 'pack/unsigned'
  /** The signature is good, but its key is not among the trusted ones; trust the key or have the pack signed by one that is. */
  | 'pack/untrusted'
  /** The signature does not fit the pack; it was altered or signed by a broken tool. */
  | 'pack/signature'
  /** A key file is not one Ed25519 key in PEM, or the key is a weak one; make another with `flotilla keys init`. */
  | 'pack/key-invalid'
  /** There is a key at this place already, and keys are never overwritten; choose another folder. */
  | 'pack/key-exists'
  /** The statement of an old key on a new one is damaged, or the old key did not sign it; take the file that `flotilla keys rotate` wrote. */
  | 'pack/key-succession'
  /** Others than its owner may read the private key; `chmod 600` it. */
  | 'pack/key-mode'
  /** A file changed while it was being read; let nobody write to it and try again. */
  | 'pack/changed'
  /** Something that is not a pack lies where the output should go; choose another path or remove it. */
  | 'pack/exists'
  /** The disk is full; free some space. Nothing half-written is left. */
  | 'pack/no-space'
  /** The system does not let this user read or write there; choose another place, or change the permissions. */
  | 'pack/permission'
  /** The disk or file system failed; the message has its reason. */
  | 'pack/io'
  /** The name is not that of an image in a registry; write HOST[:PORT]/NAME[:TAG]. */
  | 'pack/reference'
  /** The registry holds no such image, or not all of it; check name and tag. */
  | 'pack/registry-missing'
  /** The registry wants credentials, refuses those given, or they cannot be read; `--username`, `FLOTILLA_REGISTRY_USERNAME`, or `docker login`. */
  | 'pack/registry-auth'
  /** The registry refuses, or answers against its specification; the message has its words. */
  | 'pack/registry'
  /** The registry cannot be reached, or the connection broke again and again; check the address and the network. */
  | 'pack/unreachable'
  /** A file of an adapter's factors is damaged or not in the layout of safetensors; compile the pack again. */
  | 'pack/adapter'
  /** Golden vectors are damaged or not in the layout of safetensors; compile the pack again. */
  | 'pack/golden';

/** A pack that cannot be opened, trusted or written. */
export class PackError extends Error {
  override readonly name = 'PackError';
  readonly code: PackErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: PackErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}

/** What the system said, as a PackError; everything else (typed errors, aborts, faults of ours) passes through. */
export function fromSystem(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('code' in error) || !/^E[A-Z0-9]+$/.test(String(error.code))) return error;
  const options = { where: path, cause: error };
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new PackError('pack/not-found', `nothing at ${path}`, options);
    case 'ENOSPC':
    case 'EDQUOT':
      return new PackError('pack/no-space', `the disk is full: ${path} was not written`, {
        ...options,
        hint: 'free some space; nothing half-written was left',
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new PackError('pack/permission', `${path}: permission denied (${error.code})`, options);
    case 'ELOOP':
    case 'ENXIO':
      return new PackError('pack/unsafe-entry', `${path} is a link or not a regular file`, options);
    default:
      return new PackError('pack/io', `${path}: ${String(error.code)}`, options);
  }
}
