import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createPack, openPack, parsePrivateKey } from '../src/index.ts';
import { contents, scratch } from './sample.ts';
import { blobFile, filesIn, key, readManifest } from './tamper.ts';

// What tools of the CNCF ModelPack specification rely on: github.com/modelpack/model-spec, docs/spec.md, docs/config.md
// and schema/config-schema.json (members closed everywhere); modctl unpacks layers by the ending of their media type.

test('the manifest is a ModelPack artifact whose layers any ModelPack tool can unpack', async () => {
  const dir = join(await scratch(), 'pack');
  await createPack(dir, contents, { key });
  const manifest = await readManifest(dir);
  expect(manifest.artifactType).toBe('application/vnd.cncf.model.manifest.v1+json');
  expect(manifest.config.mediaType).toBe('application/vnd.cncf.model.config.v1+json');
  const shown = manifest.layers.map((layer: { mediaType: string; annotations: Record<string, string> }) => [
    layer.annotations['org.cncf.model.filepath'],
    layer.mediaType,
  ]);
  expect(shown).toEqual([
    ['flotilla-pack.json', 'application/vnd.flotilla.pack.v1.raw'],
    ['golden.safetensors', 'application/vnd.cncf.model.dataset.v1.raw'],
    ['model.onnx', 'application/vnd.cncf.model.weight.v1.raw'],
    ['plan.bin', 'application/vnd.flotilla.flight-plan.v1.raw'],
    ['text/copy.txt', 'application/vnd.cncf.model.weight.config.v1.raw'],
    ['text/keys.txt', 'application/vnd.cncf.model.weight.config.v1.raw'],
    ['flotilla-signature.json', 'application/vnd.flotilla.signature.v1.raw'],
  ]);
});

test.each([
  [0, undefined],
  [49, undefined],
  [999, '1k'],
  [1_234, '1.2k'],
  [999_999, '1000k'],
  [2_700_000, '2.7m'],
  [7_000_000_000, '7b'],
  [1_500_000_000_000, '1.5t'],
])('the config is a ModelPack config: %i parameters are %s', async (parameters, paramSize) => {
  const dir = join(await scratch(), 'pack');
  await createPack(dir, { ...contents, parameters });
  const manifest = await readManifest(dir);
  const config = JSON.parse(
    String((await filesIn(dir)).get(blobFile(dir, manifest.config.digest).slice(dir.length + 1))),
  );
  expect(config).toEqual({
    config: { format: 'onnx', ...(paramSize !== undefined && { paramSize }), precision: 'int8', quantization: 'int8' },
    descriptor: { name: 'labels' },
    modelfs: { diffIds: manifest.layers.map(({ digest }: { digest: string }) => digest), type: 'layers' },
  });
});

test('the format does not drift: these contents have had this name since version 1', async () => {
  const dir = join(await scratch(), 'pack');
  const { digest } = await createPack(dir, contents);
  expect(digest).toBe('sha256:11ccfd35450b9fae2125cbf7dada94e1937d381c70f5d7575d74e49913f247eb');
  await (await openPack(dir)).close();
});

test('nor does what is signed', async () => {
  // The first test key of RFC 8032 §7.1; Ed25519 gives one signature for one key and message.
  const seed = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
  const der = Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex').toString('base64');
  const key = parsePrivateKey(`-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`);
  const dir = join(await scratch(), 'pack');
  expect((await createPack(dir, contents, { key })).digest).toBe(
    'sha256:2e6111e8ba4cfdea4dca7f8231eadbf5bffdc116aac329dd132b7f156212378d',
  );
});
