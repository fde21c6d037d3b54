import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Graph, openModel } from '@flotilla/onnx';
import { openPack, readPrivateKey, writeAdapter, writeKeyPair } from '@flotilla/pack';
import { rebuildModel } from '@flotilla/runtime';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { builds, commands, compileBuild, writeData } from '../models/builds.ts';
import { root } from '../tiers/run.ts';
import { Fleet } from './fleet.ts';
import { bundle, cores, type Machine, openMachine, whyNoMachine } from './machine.ts';

const onDevices = builds.filter(({ model, weights }) => model === 'commands' || weights === 'int8');

describe('on emulated boards', () => {
  let folder = '';
  let fleet: Fleet | undefined;
  let missing = whyNoMachine();
  const machines = new Map<string, Machine>();
  const packOf = (model: string) => join(folder, `${model}.pack`);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'arm64-'));
    try {
      if (missing === undefined) for (const core of cores) machines.set(core.cpu, await openMachine(core));
    } catch (error) {
      missing = (error as Error).message;
    }
    if (missing !== undefined) return;
    const { privateFile, publicFile } = await writeKeyPair(join(folder, 'keys'));
    const key = await readPrivateKey(privateFile);
    await writeData(join(folder, 'data'), { calibrate: 32, judge: 1, commands: 1 });
    for (const build of onDevices)
      await compileBuild(build, join(folder, 'data'), packOf(build.model), { judged: false, key });
    fleet = await Fleet.start(folder, [publicFile]);
    for (const { cpu, board } of cores) await fleet.add(machines.get(cpu) as Machine, cpu, board);
  }, 600_000);

  beforeEach((context) => {
    if (missing !== undefined) context.skip(missing);
  });

  afterAll(async () => {
    await fleet?.stop();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  test.each(cores)('$cpu is what the profile of $board says', async ({ cpu, board }) => {
    const { status, output } = await machine(cpu).run([
      '--input-type=module',
      '-e',
      `import { detectHost, loadBoard } from ${JSON.stringify(join(root, 'packages/boards/dist/index.js'))};
       const both = [await detectHost(), await loadBoard('${board}')];
       console.log(JSON.stringify(both.map(({ arch, boardClass }) => ({ arch, boardClass }))));`,
    ]);
    const [host, profile] = JSON.parse(output) as [unknown, unknown];
    expect({ status, host }).toEqual({ status: 0, host: profile });
  });

  // Golden vectors with the board class's tolerances are part of what an agent does before it switches.
  test.each(onDevices)('both agents install $model $weights', { timeout: 400_000 }, async ({ model }) => {
    const rollout = await fleet?.rollOut(packOf(model), model, '1.0.0');
    const devices = rollout?.devices.map(({ device, status, sentence }) => ({ device, status, sentence }));
    expect(
      devices?.toSorted((a, b) => a.device.localeCompare(b.device)),
      fleet?.log,
    ).toEqual(cores.map(({ cpu }) => ({ device: cpu, status: 'done', sentence: null })));
    for (const { cpu } of cores) {
      const models = (await fleet?.client.device(cpu))?.models;
      expect(models?.find(({ name }) => name === model)?.loadedDigest).toBe(rollout?.release.digest);
    }
  });

  // Side by side from here: one emulated core each, and nothing is timed.
  test.concurrent.each(cores)('$cpu answers a command', { timeout: 240_000 }, async ({ cpu }) => {
    const [command] = await commands(1);
    const answer = await fleet?.client.call(cpu, {
      name: 'commands',
      prompt: command?.prompt ?? '',
      timeoutMs: 200_000,
    });
    expect(answer?.text.trim()).toBe(command?.completion.trim());
  });

  // JavaScript alone: what differs between cores is not in it, so that one of them is enough.
  test.concurrent('an adapter is merged into the bytes that this machine makes', { timeout: 240_000 }, async () => {
    const pack = await openPack(packOf('commands'));
    const [basePath, factorsPath] = [join(folder, 'base.onnx'), join(folder, 'factors.safetensors')];
    await pack.extract('model.onnx', basePath);
    await pack.close();
    await writeFile(factorsPath, madeUpFactors((await openModel(basePath)).graph));
    const [here, there] = [join(folder, 'here.onnx'), join(folder, 'there.onnx')];
    await rebuildModel({ basePath, factorsPath, outPath: here }, { isolate: false });
    const { status, output } = await machine('cortex-a72').run([
      '--input-type=module',
      '-e',
      `import { rebuildModel } from ${JSON.stringify(join(root, 'packages/runtime/dist/index.js'))};
       await rebuildModel(${JSON.stringify({ basePath, factorsPath, outPath: there })}, { isolate: false });`,
    ]);
    expect(status, output).toBe(0);
    const [base, expected, made] = await Promise.all([basePath, here, there].map((path) => readFile(path)));
    expect(made?.equals(expected ?? new Uint8Array()), 'the same bytes').toBe(true);
    expect(made?.equals(base ?? new Uint8Array()), 'as before').toBe(false);
  });

  const every = cores.flatMap((core) => onDevices.map((build) => ({ ...core, ...build })));
  test.concurrent.each(every)(
    'every kernel chosen for $model on $cpu loads and runs',
    { timeout: 240_000 },
    async (which) => {
      const kernels = await bundle('test/arm64/kernels.ts');
      const { status, output } = await machine(which.cpu).run([kernels, packOf(which.model), which.board]);
      expect(status, output).toBe(0);
      const { chosen, ran, golden } = JSON.parse(output.trim().split('\n').at(-1) ?? '') as KernelReport;
      expect(Object.keys(chosen).length).toBeGreaterThan(0);
      expect(ran).toMatchObject(chosen);
      expect(golden, 'golden vectors').toMatchObject({ ok: true });
      console.log(`${which.model} on ${which.cpu}: ${JSON.stringify({ chosen, golden })}`);
    },
  );

  function machine(cpu: string): Machine {
    const found = machines.get(cpu);
    if (found === undefined) throw new Error(`${cpu} was not opened`);
    return found;
  }
});

/** For the first products with weights of 4 bits: an emulated core takes 20 s for all of them. */
const CHANGED = 3;

function madeUpFactors(graph: Graph): Uint8Array {
  const layers = [...graph.walk({ opType: 'MatMul' })].flatMap(({ inputs, outputs }) => {
    const reading = graph.producer(inputs[1] ?? '');
    const weight = graph.constant(reading?.inputs[0] ?? '');
    if (reading?.opType !== 'DequantizeLinear' || weight?.dtype !== 'uint4') return [];
    const [inFeatures = 0, outFeatures = 0] = weight.dims;
    return [{ output: outputs[0] ?? '', inFeatures, outFeatures }];
  });
  // float16 of all sizes between 2⁻⁹ and 2⁻⁴, of either sign.
  const halves = (length: number, step: number) =>
    Uint16Array.from({ length }, (_, i) => (((i * step) % 2) << 15) | (0x1800 + ((i * step) % 0x1400)));
  const rank = 8;
  const parts = layers.slice(0, CHANGED).map((layer, i) => {
    const { inFeatures, outFeatures } = layer;
    const a = halves(rank * inFeatures, 7919 + i);
    const b = halves(outFeatures * rank, 104_729 + i);
    const gain = i % 2 === 0 ? undefined : new Uint16Array(outFeatures).fill(0x3bff); // just below 1
    return { ...layer, begin: 0, end: outFeatures, rank, a, b, gain, shift: undefined };
  });
  return writeAdapter({ name: 'made-up', model: '', parts });
}

/** How many nodes each kernel has. */
interface KernelReport {
  /** In lowering's choices. */
  readonly chosen: { readonly [kernel: string]: number };
  /** In what ONNX Runtime's profiler saw. */
  readonly ran: { readonly [kernel: string]: number };
  readonly golden: { readonly ok: boolean };
}
