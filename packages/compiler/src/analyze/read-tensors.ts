import { elementCount, floats, type Tensor } from '@flotilla/onnx';
import { floatsBetween } from '../kernels/tensor-parts.ts';

/** A tensor's numbers, or those of its first rows. */
export interface Values {
  readonly values: Float32Array;
  /** Of what is there. */
  readonly dims: readonly number[];
  readonly sampled: boolean;
}

/** Whole reading ends here: a model of many gigabytes is read once, by what converts it. */
const WHOLE_BYTES = 512e6;
/** That many tell how a tensor is spread. */
const SAMPLED_ELEMENTS = 1 << 17;

/**
 * Reads constants one by one for an analysis. The first 512 MB are read whole; of a float32 tensor beyond them the first
 * rows, 131,072 elements or one row.
 */
export class TensorReader {
  /** Of the tensors that were not read whole. */
  sampledBytes = 0;
  #left: number;

  constructor(wholeBytes = WHOLE_BYTES) {
    this.#left = wholeBytes;
  }

  read(tensor: Tensor): Values {
    this.#left -= tensor.byteLength;
    const dims = this.#left >= 0 || tensor.dtype !== 'float32' ? tensor.dims : firstRows(tensor.dims, SAMPLED_ELEMENTS);
    if (dims === tensor.dims) return { values: floats(tensor), dims, sampled: false };
    this.sampledBytes += tensor.byteLength;
    return { values: floatsBetween(tensor, 0, elementCount({ dims })), dims, sampled: true };
  }
}

/** The first rows, of about so many elements. */
export function sampleOf(whole: Values, elements = SAMPLED_ELEMENTS): Values {
  const dims = firstRows(whole.dims, elements);
  return dims === whole.dims
    ? whole
    : { values: whole.values.subarray(0, elementCount({ dims })), dims, sampled: true };
}

function firstRows(dims: readonly number[], elements: number): readonly number[] {
  const [rows = 1, ...rest] = dims;
  const some = Math.max(1, Math.floor(elements / elementCount({ dims: rest })));
  return rest.length === 0 || some >= rows ? dims : [some, ...rest];
}
