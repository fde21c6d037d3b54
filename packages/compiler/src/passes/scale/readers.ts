import { floats, type Graph } from '@flotilla/onnx';
import { type LinearNode, linearNode } from '../linear.ts';
import type { ChannelAxis } from './divisible.ts';

/** A value that nothing but linear nodes reads, as their input: what it is divided by, their weights can take. */
export interface LinearlyRead {
  readonly value: string;
  readonly readers: readonly LinearNode[];
  readonly axis: ChannelAxis;
  readonly channels: number;
}

/** All such values, in graph order. */
export function linearlyReadValues(graph: Graph): string[] {
  const values = new Set(graph.nodes.map(({ inputs }) => inputs[0] ?? ''));
  return [...values].filter((value) => linearlyRead(graph, value));
}

/** A value and its readers as they are now; undefined where not all are linear, or share weights that would be copied. */
export function linearlyRead(graph: Graph, value: string): LinearlyRead | undefined {
  if (value === '' || graph.isOutput(value) || graph.isInput(value)) return undefined;
  const all = graph.consumers(value);
  const readers = all.flatMap((reader) => {
    const linear = reader.graph === graph && reader.inputs[0] === value ? linearNode(reader) : undefined;
    return linear && !linear.shared && reader.inputs.lastIndexOf(value) === 0 ? [linear] : [];
  });
  const [first] = readers;
  if (!first || readers.length !== all.length) return undefined;
  const { inputChannels: channels } = first;
  const axis = axisOf(first);
  const alike = readers.every((linear) => axisOf(linear) === axis && linear.inputChannels === channels);
  return alike ? { value, readers, axis, channels } : undefined;
}

const axisOf = ({ node }: LinearNode): ChannelAxis =>
  node.opType === 'Conv' || node.opType === 'ConvTranspose' ? 'first' : 'last';

/** Largest |w| by input channel over all readers, `[channels]`. */
export function inputPeaks({ readers, channels }: LinearlyRead): Float32Array {
  const peaks = new Float32Array(channels);
  for (const linear of readers) raisePeaks(peaks, linear, (index) => linear.inputChannel(index));
  return peaks;
}

/** Largest |w| by output channel, `[channels]`. */
export function outputPeaks(linear: LinearNode): Float32Array {
  const peaks = new Float32Array(linear.outputChannels);
  raisePeaks(peaks, linear, (index) => linear.outputChannel(index));
  return peaks;
}

function raisePeaks(peaks: Float32Array, { weight }: LinearNode, channelOf: (index: number) => number): void {
  for (const [index, value] of floats(weight).entries()) {
    const channel = channelOf(index);
    peaks[channel] = Math.max(peaks[channel] ?? 0, Math.abs(value));
  }
}
