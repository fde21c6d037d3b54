import type { BoardClass } from '@flotilla/boards';

/** What a class of CPUs runs fastest. The figures are in README.md. */
export interface Policy {
  /** For a 2-D weight of 4 bits in blocks, or 8 bits per column. */
  readonly weightOnly: 'nbits' | 'dynamic-int8';
  readonly weightOnlyReason: string;
  /**
   * `Lowered.spread` where MatMulNBits runs. KleidiAI's kernels on ARM with dot product round symmetric scales to
   * bfloat16 and activations by the row: 1.2e-2 on the 4 M language model, 2.5e-2 with the norms' gains in its weights.
   */
  readonly nbitsSpread: number;
  /** ONNX Runtime's session config entries that hold whatever the graph is. */
  readonly session: { readonly [key: string]: string };
}

/** Threads that wait by spinning heat a small board and take the core that the network needs. */
const CALM = { 'session.intra_op.allow_spinning': '0' };

/** What ONNX Runtime would assume anyway (1.30.0), spelt out: another default would cost up to 100 times. */
const INT8_ACTIVATIONS = { 'session.qdq_matmulnbits_accuracy_level': '4' };

export const POLICIES: { readonly [C in BoardClass]: Policy } = {
  x64: {
    weightOnly: 'nbits',
    weightOnlyReason:
      'at one row as fast as int8 with half the bytes; level 4: a quarter of the time of fp32 activations',
    nbitsSpread: 0,
    session: INT8_ACTIVATIONS,
  },
  'x64-vnni': {
    weightOnly: 'nbits',
    weightOnlyReason: 'fastest at one row on VNNI; level 4: int8 activations',
    nbitsSpread: 0,
    session: INT8_ACTIVATIONS,
  },
  arm64: {
    weightOnly: 'dynamic-int8',
    weightOnlyReason:
      'no dot product: MatMulNBits executes 7 times the instructions; signed weights, the unsigned take 1.6 times',
    nbitsSpread: 0,
    session: CALM,
  },
  'arm64-dotprod': {
    weightOnly: 'nbits',
    weightOnlyReason: 'dot product: as few instructions as int8 with half the bytes; level 4: int8 activations',
    nbitsSpread: 0.05,
    session: { ...CALM, ...INT8_ACTIVATIONS },
  },
};
