import type { ActivationPicture, ReportData } from '../src/report/report-data.ts';

/** Made-up findings of each kind that the page shows. */
export function reportData(): ReportData {
  const node = (name: string, sqnrDb: number | null, ownDb: number | null) => ({
    node: name,
    op: 'Conv',
    tensor: `${name}_out`,
    sqnrDb,
    ownDb,
    ownGain: 1,
    nodes: [name],
  });
  return {
    report: {
      model: { path: 'models/net.onnx', bytes: 10_000_000, parameters: 2_500_000 },
      pack: { path: 'net.pack', digest: 'sha256:00', bytes: 3_000_000, modelBytes: 2_700_000 },
      base: null,
      requantization: null,
      ratio: 0.27,
      recipe: 'name: int8\npasses:\n',
      nodes: { quantized: 10, float: 2 },
      float: [
        { node: 'last', op: 'MatMul', reason: 'its output is a graph output' },
        { node: 'other', op: 'Gemm', reason: 'its output is a graph output' },
      ],
      notes: [],
      warnings: ['12 calibration samples'],
      verdict: {
        metric: 'top1',
        samples: 400,
        fp32: 0.9,
        quantized: 0.887,
        kept: 0.986,
        interval: [0.97, 0.994],
        floor: 0.98,
        ok: true,
        candidates: 1,
        splits: { calibrate: 64, choose: null, judge: 400 },
        sqnrDb: 31.2,
      },
      latency: {
        threads: 1,
        fp32: { p50Us: 20_000 },
        quantized: { p50Us: 10_000 },
        speedup: 2,
        interval: [1.9, 2.1],
        cleanup: { p50Us: 16_000, speedup: 1.25, interval: [1.2, 1.3] },
      },
      memory: {
        fp32: { weightsBytes: 10_000_000, peakRssBytes: 150_000_000 },
        quantized: { weightsBytes: 2_600_000, peakRssBytes: 130_000_000 },
      },
      objections: ['slower than fp32'],
      budget: {
        limits: [{ key: 'size', value: 3_000_000 }],
        met: true,
        candidates: 3,
        samples: 64,
        sensitivities: [{ nodes: ['first'], formats: [{ format: 'int4', noise: 0.012 }], levelGain: 0.003 }],
        points: [
          {
            name: 'int4',
            single: true,
            bytes: 1_500_000,
            score: 0.8,
            kept: 0.88,
            noise: 0.09,
            inFloats: 0,
            p50Us: null,
          },
          {
            name: 'mixed-1',
            single: false,
            bytes: 2_700_000,
            score: 0.89,
            kept: 0.99,
            noise: 0.01,
            inFloats: 0.25,
            p50Us: null,
          },
          {
            name: 'int8',
            single: true,
            bytes: 2_900_000,
            score: 0.88,
            kept: 0.98,
            noise: 0.02,
            inFloats: 0,
            p50Us: null,
          },
        ],
        front: ['int4', 'mixed-1'],
        chosen: 'mixed-1',
        why: 'mixed-1: of 3 candidates the best one within 3.00 MB',
      },
      resumedBytes: 0,
      seconds: 12,
      peakRssBytes: 300_000_000,
    },
    machine: 'a machine',
    board: 'x64',
    observedOn: 'the calibration data',
    samples: 8,
    nodeSamples: 4,
    activations: [{ ...distribution('relu_out'), range: { min: 0, max: 4 } }],
    sampledBytes: 0,
    weights: [
      {
        ...distribution('w'),
        shape: [8, 8],
        sqnrDb: { int8: 43, int8PerTensor: 40, int4: 20, int4Block128: 18, fp16: 70 },
      },
    ],
    nodes: [node('first', 40, 40), node('second', 3, 4), node('third', null, null)],
    floorDb: 10,
    times: {
      fp32: [{ name: 'first', op: 'Conv', us: 900 }],
      quantized: [{ name: 'first_quant', op: 'QLinearConv', us: 300 }],
    },
  };
}

export function distribution(name: string): Omit<ActivationPicture, 'range'> {
  return {
    name,
    node: `${name}_node`,
    op: 'Relu',
    min: -1,
    max: 5,
    kurtosis: 4.2,
    outliers: 1,
    farthest: [{ value: 5, at: [0, 3, 1], channel: 3, sample: 2, sigmas: 9 }],
    histogram: [1, 30, 90, 20, 4, 1],
    sqnrDb: { int8: 36, int8Clipped: 38, int4: 15 },
  };
}
