import { isName } from '@flotilla/protocol';
import { z } from 'zod';

// What requests may hold. Unknown keys are refused: a misspelt option must not silently mean its default.
const printable = /^\P{Cc}*$/u;
const name = z.string().refine(isName, 'use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit');
const label = z.string().min(1).max(128).regex(printable, 'holds a control character');
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'is not a sha256 digest');
const version = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$/, 'is not a version such as 1.2.0');
const tags = z.array(z.string().min(1).max(64).regex(printable, 'holds a control character')).max(32);

/** A release by its name and version. */
const release = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}@[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$/, 'is not NAME@VERSION');

const HOUR_MS = 3_600_000;

export const provisionSchema = z.strictObject({
  device: name.optional(),
  board: label,
  fleet: name.default('main'),
  name: label.optional(),
  tags: tags.default([]),
});

export const tagsSchema = z.strictObject({ tags });

export const releaseSchema = z.strictObject({ name, version, digest });

export const rolloutSchema = z.strictObject({
  release: z.union([release, z.strictObject({ name, version }).transform((of) => `${of.name}@${of.version}`)]),
  to: z.string().max(1000).default('all'),
  canary: z.int().min(0).max(100_000).default(1),
  healthWindowMs: z
    .int()
    .min(0)
    .max(24 * HOUR_MS)
    .default(10_000),
  stateDeadlineMs: z
    .int()
    .min(1000)
    .max(24 * HOUR_MS)
    .default(600_000),
});

export const callSchema = z
  .strictObject({
    name,
    prompt: z.string().max(16_384).default(''),
    maxTokens: z.int().min(1).max(65_536).default(128),
    benchMs: z.int().min(0).max(HOUR_MS).default(0),
    temperature: z.number().min(0).max(100).optional(),
    seed: z.int().min(0).max(0xffff_ffff).optional(),
    schema: z.string().max(16_384).optional(),
    adapter: z.string().min(1).max(256).optional(),
    timeoutMs: z.int().min(100).max(HOUR_MS).optional(),
  })
  .transform((call) => ({ ...call, timeoutMs: call.timeoutMs ?? call.benchMs + 60_000 }));

export const tokenSchema = z.strictObject({ role: z.enum(['admin', 'read', 'provision']), label });
