import { CompilerError } from '../errors.ts';

export interface Sound {
  /** Hz. */
  readonly rate: number;
  /** One channel, the mean of all, in ±1. */
  readonly samples: Float32Array;
}

const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

/**
 * Reads RIFF WAVE: PCM of 8, 16, 24 or 32 bits, or float of 32.
 * @throws {CompilerError} `compiler/data`
 * @see Multimedia Programming Interface and Data Specifications 1.0, "Waveform Audio File Format"
 */
export function readWav(bytes: Uint8Array, where: string): Sound {
  const fail = (what: string): never => {
    throw new CompilerError('compiler/data', `${where}: ${what}`, { where });
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tag = (at: number): string => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length < 12 || tag(0) !== 'RIFF' || tag(8) !== 'WAVE') return fail('not a .wav file');
  let format: { kind: number; channels: number; rate: number; bits: number } | undefined;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    const body = at + 8;
    // A recorder that was cut off leaves a size that the file does not have.
    const end = Math.min(bytes.length, body + size);
    if (tag(at) === 'fmt ' && end - body >= 16) {
      const kind = view.getUint16(body, true);
      format = {
        kind: kind === EXTENSIBLE && end - body >= 26 ? view.getUint16(body + 24, true) : kind,
        channels: view.getUint16(body + 2, true),
        rate: view.getUint32(body + 4, true),
        bits: view.getUint16(body + 14, true),
      };
    }
    if (tag(at) === 'data') {
      if (!format || format.channels === 0 || format.rate === 0) return fail('sound before its format');
      const read = reader(view, format.kind, format.bits) ?? fail(`format ${format.kind} of ${format.bits} bits`);
      return { rate: format.rate, samples: mixed(read, body, end, format.channels, format.bits / 8) };
    }
    // Chunks are padded to even sizes.
    at = body + size + (size % 2);
  }
  return fail('holds no sound');
}

function reader(view: DataView, kind: number, bits: number): ((at: number) => number) | undefined {
  if (kind === FLOAT && bits === 32) return (at) => view.getFloat32(at, true);
  if (kind !== PCM) return undefined;
  if (bits === 8) return (at) => (view.getUint8(at) - 128) / 128;
  if (bits === 16) return (at) => view.getInt16(at, true) / 2 ** 15;
  if (bits === 24) return (at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 2 ** 16) / 2 ** 23;
  if (bits === 32) return (at) => view.getInt32(at, true) / 2 ** 31;
  return undefined;
}

function mixed(
  read: (at: number) => number,
  start: number,
  end: number,
  channels: number,
  width: number,
): Float32Array {
  const samples = new Float32Array(Math.floor((end - start) / (channels * width)));
  for (let i = 0; i < samples.length; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += read(start + (i * channels + c) * width);
    samples[i] = sum / channels;
  }
  return samples;
}

/** Linear interpolation: enough for calibration; record at the model's rate where it matters. */
export function resample({ rate, samples }: Sound, to: number): Float32Array {
  if (rate === to) return samples;
  return Float32Array.from({ length: Math.floor((samples.length * to) / rate) }, (_, i) => {
    const at = (i * rate) / to;
    const low = Math.floor(at);
    const next = samples[Math.min(low + 1, samples.length - 1)] ?? 0;
    return (samples[low] ?? 0) * (1 - (at - low)) + next * (at - low);
  });
}
