import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { between, hashText, seededRandom } from '../../labels/random.ts';
import { run } from '../../tiers/run.ts';

/** Hz. */
export const RATE = 16_000;

/** One channel in ±1 at 16 kHz. */
export interface Clip {
  readonly name: string;
  readonly samples: Float32Array;
}

const RECORDINGS = '/usr/share/pocketsphinx/test/data';

/** Voices of one part speak in no other. */
const VOICES = { calibrate: ['en-us', 'en-gb-scotland'], judge: ['en-gb-x-rp', 'en-029', 'en-us-nyc', 'en-gb'] };
const SENTENCES = {
  calibrate: ['alexa', 'hey jarvis', 'set a timer for five minutes', 'the parcel lies on the second shelf'],
  judge: [
    'alexa',
    'hey jarvis',
    'set a timer for ten minutes',
    'alexa, what time is it',
    'hey jarvis, open the door',
    'ten boxes of copper wire left the harbour this morning',
  ],
};

/**
 * Speech of espeak-ng and of Debian's pocketsphinx-testdata, with and without noise, noise alone, silence; the same clips
 * every time.
 * @throws where one of the two packages is missing, in words
 */
export async function clips(part: 'calibrate' | 'judge', count: number): Promise<readonly Clip[]> {
  const missing = existsSync(RECORDINGS) ? [] : ['pocketsphinx-testdata'];
  if ((await run(['espeak-ng', '--version'])).status !== 0) missing.push('espeak-ng');
  if (missing.length > 0) throw new Error(`skipped: no ${missing.join(' and no ')} (Debian packages)`);
  const [said, read] = [await spoken(part), recorded(part)];
  const random = seededRandom(hashText(`noise ${part}`));
  const noise = (seconds: number, strength: number): Float32Array =>
    Float32Array.from({ length: seconds * RATE }, () => strength * (random() + random() - 1));
  const noisy = [...read, ...said].map(({ name, samples }) => {
    const strength = between(random, 0.01, 0.15);
    return { name: `${name} in noise`, samples: samples.map((s) => s + strength * (random() + random() - 1)) };
  });
  const others = [
    { name: 'noise', samples: noise(2, 0.1) },
    { name: 'silence', samples: new Float32Array(2 * RATE) },
    { name: 'loud noise', samples: noise(2, 0.8) },
  ];
  // In turns, so that a few hold some of each.
  const rows = Array.from({ length: Math.max(said.length, noisy.length) }, (_, i) =>
    [said[i], read[i], noisy[i], others[i]].filter((clip) => clip !== undefined),
  );
  return rows.flat().slice(0, count);
}

async function spoken(part: keyof typeof VOICES): Promise<readonly Clip[]> {
  const folder = await mkdtemp(join(tmpdir(), 'flotilla-speech-'));
  const found: Clip[] = [];
  try {
    for (const [i, sentence] of SENTENCES[part].entries())
      for (const [j, voice] of VOICES[part].entries()) {
        const file = join(folder, `${i}-${j}.wav`);
        const speed = String(130 + 15 * ((i + 2 * j) % 5));
        const { status, output } = await run(['espeak-ng', '-v', voice, '-s', speed, '-w', file, sentence]);
        if (status !== 0) throw new Error(`espeak-ng: ${output.trim()}`);
        found.push({ name: `${voice}: ${sentence}`, samples: padded(pcm(readFileSync(file))) });
      }
    return found;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Recordings by halves: every second one calibrates. */
function recorded(part: keyof typeof VOICES): readonly Clip[] {
  const files = ['cards', 'librivox'].flatMap((folder) =>
    readdirSync(join(RECORDINGS, folder))
      .filter((name) => name.endsWith('.wav'))
      .toSorted()
      .map((name) => join(RECORDINGS, folder, name)),
  );
  return files
    .filter((_, i) => (i % 2 === 0) === (part === 'judge'))
    .map((file) => ({ name: file, samples: pcm(readFileSync(file)).slice(0, 6 * RATE) }));
}

/** Mono PCM of 16 bits, as both sources write it, at 16 kHz. */
function pcm(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rate = view.getUint32(24, true);
  const samples = Float32Array.from(
    { length: (bytes.length - 44) >> 1 },
    (_, i) => view.getInt16(44 + 2 * i, true) / 32_768,
  );
  const length = Math.floor((samples.length * RATE) / rate);
  return Float32Array.from({ length }, (_, i) => {
    const at = (i * rate) / RATE;
    const [a, b] = [samples[Math.floor(at)] ?? 0, samples[Math.floor(at) + 1] ?? 0];
    return a + (at % 1) * (b - a);
  });
}

/** A second of silence before and half a one behind: a wake word is told from what came before it. */
function padded(samples: Float32Array): Float32Array {
  const out = new Float32Array(samples.length + 1.5 * RATE);
  out.set(samples, RATE);
  return out;
}
