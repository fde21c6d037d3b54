export { type AdapterPart, type PackAdapter, readAdapter, writeAdapter } from './adapter.ts';
export { assemblePack, blobPath } from './assemble.ts';
export { createPack } from './create.ts';
export { PackError, type PackErrorCode } from './errors.ts';
export { type GoldenCase, type GoldenTensor, type GoldenTensors, readGolden, writeGolden } from './golden.ts';
export {
  generateKey,
  keyId,
  type PrivateKey,
  type PublicKey,
  parsePrivateKey,
  parsePublicKey,
  publicKeyFromRaw,
  readPrivateKey,
  readPublicKey,
  sign,
  verify,
  writeKeyPair,
} from './keys.ts';
export { layerType } from './media-types.ts';
export { type OpenOptions, openPack, type Pack } from './open.ts';
export {
  parseSuccession,
  readSuccessions,
  type Rotation,
  rotateKey,
  signSuccession,
  type Succession,
  successorsOf,
} from './succession.ts';
export { type Credentials, dockerCredentials } from './registry/credentials.ts';
export { type PullOptions, pullPack } from './registry/pull.ts';
export { type PushOptions, pushPack } from './registry/push.ts';
export { parseReference } from './registry/reference.ts';
export { signPack } from './sign-pack.ts';
export type { Blob, PackConfig, PackContents, PackFile, Role, SourceFile, Tolerance } from './types.ts';
export { unpackPack } from './unpack.ts';
export { listPack, type PackListing, packBlobs, readBlob, type VerifyReport, verifyPack } from './verify.ts';
