import { readFile } from 'node:fs/promises';
import { isDeepYaml } from '@flotilla/boards';
import { parse } from 'yaml';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';

const positive = z.int().min(1).max(65_536);
const perChannel = z.array(z.number()).min(1).max(4);

/** How pictures become a tensor. */
const imageSchema = z.strictObject({
  /** The input that it fills. Default: the first one. */
  input: z.string().optional(),
  /** Rows, and columns unless `fit` is 'height', which keeps the shape of the picture. */
  size: z.tuple([positive, positive]).or(z.tuple([positive])),
  /** 'stretch'; 'cover': the middle is cut out; 'contain': the rest is filled with `pad`; 'height': any width. */
  fit: z.enum(['stretch', 'cover', 'contain', 'height']).default('stretch'),
  pad: z.number().min(0).max(255).default(0),
  resize: z.enum(['bilinear', 'nearest']).default('bilinear'),
  colour: z.enum(['rgb', 'bgr', 'grey']).default('rgb'),
  layout: z.enum(['nchw', 'nhwc']).default('nchw'),
  /** `(value · scale − mean) / std`, with `value` in 0 … 255. */
  scale: z.number().default(1 / 255),
  mean: perChannel.default([0]),
  std: perChannel.default([1]),
  /** 'folder': the classes are the sorted names of the subfolders. Else a file of `name,label` lines. */
  labels: z.string().optional(),
});

/** How sound becomes tensors: each file is cut into windows. */
const soundSchema = z.strictObject({
  input: z.string().optional(),
  /** Hz; files of another rate are resampled linearly. */
  rate: z.int().min(1000).max(384_000).default(16_000),
  /** Samples, in the rate above. */
  window: positive,
  /** Default: the window, so that windows do not overlap. */
  hop: positive.optional(),
  features: z
    .union([
      z.literal('samples'),
      z.strictObject({
        kind: z.literal('log-mel'),
        fft: z.int().min(16).max(4096).default(400),
        step: positive.default(160),
        bands: z.int().min(1).max(256).default(32),
      }),
    ])
    .default('samples'),
  /** Multiplies samples, which lie in ±1. */
  scale: z.number().default(1),
});

const schema = z.strictObject({
  image: imageSchema.optional(),
  sound: soundSchema.optional(),
  /** Fills the inputs that the data do not: every element this number. */
  constants: z.record(z.string(), z.number()).default({}),
});

export type ImageRules = z.infer<typeof imageSchema>;
export type SoundRules = z.infer<typeof soundSchema>;
export type Preprocess = z.infer<typeof schema>;

const LONGEST = 65_536;

/**
 * Reads the rules by which pictures or sound become a model's inputs.
 * @throws {CompilerError} `compiler/preprocess`
 */
export async function readPreprocess(path: string): Promise<Preprocess> {
  const fail = (what: string, cause?: unknown): never => {
    throw new CompilerError('compiler/preprocess', `${path}: ${what}`, { where: path, cause });
  };
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) =>
    fail(`cannot be read: ${cause.code ?? cause.message}`, cause),
  );
  if (text.length > LONGEST || isDeepYaml(text)) return fail('longer or deeper than such a file can be');
  let content: unknown;
  try {
    content = parse(text, { maxAliasCount: 0 });
  } catch (cause) {
    return fail(cause instanceof Error ? (cause.message.split('\n', 1)[0] ?? '') : String(cause), cause);
  }
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const at = issue?.path.join('.') ?? '';
  return fail(`${at === '' ? '' : `${at}: `}${issue?.message ?? 'not what it should be'}`);
}
