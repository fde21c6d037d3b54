import { PackError } from '@flotilla/pack';
import type { FailureReason } from '@flotilla/protocol';

/** Why a step of an update ended badly, on its way from the work to the report. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly reason: FailureReason;
  constructor(reason: FailureReason, detail: string, options?: ErrorOptions) {
    super(detail, options);
    this.reason = reason;
  }
}

/** Finds the reason in what the work threw. @param otherwise where the error says nothing better */
export function refusalOf(error: unknown, otherwise: FailureReason): Refusal {
  if (error instanceof Refusal) return error;
  const code = codeOf(error);
  const detail = error instanceof Error ? `${code === '' ? '' : `${code}: `}${error.message}` : String(error);
  const storage = storageReason(error);
  return new Refusal(storage ?? reasons.get(code) ?? byFamily(error) ?? otherwise, detail, { cause: error });
}

/** `storage-full` or `storage-fault` for what the system or a room says about the disk. */
export function storageReason(error: unknown): 'storage-full' | 'storage-fault' | undefined {
  for (let one = error; one instanceof Error; one = one.cause) {
    const code = codeOf(one);
    if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'pack/no-space') return 'storage-full';
    if (code === 'EIO' || code === 'EROFS' || code === 'EACCES' || code === 'pack/io') return 'storage-fault';
  }
  return undefined;
}

const reasons: ReadonlyMap<string, FailureReason> = new Map([
  ['pack/unsigned', 'pack-signature'],
  ['pack/untrusted', 'pack-signature'],
  ['pack/signature', 'pack-signature'],
  ['pack/digest-mismatch', 'pack-digest'],
  ['pack/size-mismatch', 'pack-digest'],
  ['pack/missing-blob', 'pack-digest'],
  ['pack/changed', 'pack-digest'],
  ['runtime/load', 'load'],
  ['runtime/crashed', 'crashed'],
  ['runtime/timeout', 'hung'],
  ['runtime/memory', 'memory'],
  ['runtime/pack', 'board-unsupported'],
  ['runtime/cache', 'storage-fault'],
]);

function byFamily(error: unknown): FailureReason | undefined {
  if (error instanceof PackError) return 'pack-invalid';
  return codeOf(error).startsWith('lowering/') ? 'lowering' : undefined;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
