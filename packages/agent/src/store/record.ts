import { FAILURE_REASONS, isName } from '@flotilla/protocol';
import { type ModelRecord, STEPS } from '../mind/state.ts';

/** What a slot says of itself. */
export interface SlotMark {
  readonly digest: string;
  readonly sequence: number;
  readonly committed: boolean;
}

/**
 * Reads what this agent wrote; the checksum was good, so this guards against another program's idea of the format.
 * @returns undefined if it is no record of this model
 */
export function parseRecord(body: unknown, name: string): ModelRecord | undefined {
  if (!isObject(body) || body['name'] !== name || !isName(name)) return undefined;
  const { sequence, release, active, fallback, phase, furthest, boots } = body;
  if (![sequence, furthest, boots].every(isCount) || !isPhase(phase)) return undefined;
  if (![active, fallback].every((installed) => installed === undefined || isInstalled(installed))) return undefined;
  if (release !== undefined && !(isObject(release) && release['name'] === name && isCount(release['sequence'])))
    return undefined;
  // JSON has no undefined: members that were are absent, and the record wants them by name.
  return { name, sequence, release, active, fallback, phase, furthest, boots } as unknown as ModelRecord;
}

export function parseMark(body: unknown): SlotMark | undefined {
  if (!isObject(body) || !isDigest(body['digest']) || !isCount(body['sequence'])) return undefined;
  return { digest: body['digest'], sequence: body['sequence'], committed: body['committed'] === true };
}

const finals: readonly unknown[] = ['empty', 'committed'];
const refusals: readonly unknown[] = ['failed', 'rolled-back'];
const steps: readonly unknown[] = STEPS;
const reasons: readonly unknown[] = FAILURE_REASONS;

function isPhase(phase: unknown): boolean {
  if (!isObject(phase)) return false;
  if (refusals.includes(phase['at'])) return reasons.includes(phase['reason']) && typeof phase['detail'] === 'string';
  return finals.includes(phase['at']) || steps.includes(phase['at']);
}

function isInstalled(value: unknown): boolean {
  return isObject(value) && (value['slot'] === 'a' || value['slot'] === 'b') && isDigest(value['digest']);
}

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
const isDigest = (value: unknown): value is string => typeof value === 'string' && /^sha256:[0-9a-f]{64}$/.test(value);
