import { execFileSync } from 'node:child_process';
import { link, mkdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openPack, verifyPack } from '../src/index.ts';
import { noise, scratch } from './sample.ts';
import {
  blobFile,
  editIndex,
  editLayer,
  editManifest,
  key,
  malleated,
  readIndex,
  readManifest,
  sha256,
  signedPack,
} from './tamper.ts';

const trusted = [key.publicKey];
const configType = 'application/vnd.flotilla.pack.v1.raw';
const signatureType = 'application/vnd.flotilla.signature.v1.raw';

async function refused(dir: string, code: string): Promise<void> {
  await expect(openPack(dir, { trusted })).rejects.toMatchObject({ name: 'PackError', code });
  await expect(openPack(dir)).rejects.toMatchObject({ code }); // trust asked for or not
}

test('the harm done below is what makes the difference', async () => {
  const dir = await signedPack();
  await editManifest(dir, (manifest) => manifest);
  await editLayer(dir, configType, (config) => config);
  await editLayer(dir, signatureType, (signature) => signature);
  await editIndex(dir, (index) => index);
  expect(await verifyPack(dir, { trusted })).toMatchObject({ name: 'labels', files: 5, trusted: true });
});

describe('#37 what an image layout can get wrong', () => {
  test('#37 a blob whose bytes are not its digest', async () => {
    const dir = await signedPack();
    const model = blobFile(dir, sha256(noise(3_000)));
    const bytes = await readFile(model);
    bytes[1_234] = (bytes[1_234] ?? 0) ^ 1;
    await writeFile(model, bytes);
    await refused(dir, 'pack/digest-mismatch');
  });

  test('#37 a manifest that is not the digest in the index', async () => {
    const dir = await signedPack();
    const { digest } = (await readIndex(dir)).manifests[0];
    const manifest = await readFile(blobFile(dir, digest), 'utf8');
    await writeFile(blobFile(dir, digest), manifest.replace('model.onnx', 'model.onnX'));
    await refused(dir, 'pack/digest-mismatch');
  });

  test.each([-1, 1])('#37 a size that is off by %i', async (by) => {
    const dir = await signedPack();
    await editIndex(dir, ({ manifests }) => void (manifests[0].size += by));
    await refused(dir, 'pack/size-mismatch');
    const other = await signedPack();
    await truncate(blobFile(other, sha256(noise(3_000))), 3_000 + by);
    await refused(other, 'pack/size-mismatch');
  });

  const hex = sha256('');
  test.each([
    `sha512:${hex}${hex}`,
    `md5:${hex.slice(32)}`,
    `sha256:${hex.toUpperCase()}`,
    `SHA256:${hex}`,
    'sha256:../../x',
    `sha256:${hex}/../${hex}`,
    `sha256:${hex}\n`,
    hex,
    '',
    null,
    7,
  ])('#37 the digest %j', async (digest) => {
    const dir = await signedPack();
    await editIndex(dir, ({ manifests }) => void (manifests[0].digest = digest));
    await refused(dir, 'pack/digest-invalid');
    const other = await signedPack();
    await editManifest(other, (manifest) => {
      const value = JSON.parse(manifest);
      value.layers[2].digest = digest;
      return JSON.stringify(value);
    });
    await refused(other, 'pack/digest-invalid');
    const third = await signedPack();
    await editLayer(third, configType, (config) => {
      const value = JSON.parse(config);
      value.files[1].digest = digest;
      return JSON.stringify(value);
    });
    await refused(third, 'pack/digest-invalid');
  });

  test('#37 a missing blob', async () => {
    const dir = await signedPack();
    await rm(blobFile(dir, sha256(noise(3_000))));
    await refused(dir, 'pack/missing-blob');
  });

  test('#37 a layer of unknown media type is kept, readable, and nobody’s model', async () => {
    const dir = await signedPack();
    const unknown = (await readManifest(dir)).layers.find((layer: { mediaType: string }) =>
      layer.mediaType.includes('flight-plan'),
    );
    const pack = await openPack(dir, { trusted });
    expect(await pack.file('plan.bin')).toEqual(noise(100, 7));
    expect(pack.config.files.filter(({ role }) => role === 'model')).toHaveLength(1);
    expect(pack.blobs).toContainEqual({ digest: unknown.digest, bytes: 100 });
    await pack.close();
  });

  test('#37 a layer that the config does not list', async () => {
    const dir = await signedPack();
    await writeFile(blobFile(dir, sha256('x')), 'x');
    await editManifest(dir, (manifest) => {
      const value = JSON.parse(manifest);
      value.layers.push({ digest: `sha256:${sha256('x')}`, mediaType: 'application/x-anything', size: 1 });
      return JSON.stringify(value);
    });
    await refused(dir, 'pack/manifest');
  });

  test('#37 two configs', async () => {
    const dir = await signedPack();
    await editManifest(dir, (manifest) => {
      const value = JSON.parse(manifest);
      value.layers.push(value.layers[0]);
      return JSON.stringify(value);
    });
    await refused(dir, 'pack/manifest');
    const other = await signedPack();
    // A second member `config`: JSON.parse sees the last, other readers the first.
    await editManifest(other, (manifest) => manifest.replace('"config":', '"config":{"digest":"x"},"config":'));
    await refused(other, 'pack/manifest');
  });

  test('#37 an index in an index, a thousand deep', async () => {
    const dir = await signedPack();
    const { manifests } = await readIndex(dir);
    let [inner] = manifests;
    for (let depth = 0; depth < 1_000; depth++) {
      const text = JSON.stringify({ schemaVersion: 2, manifests: [inner] });
      await writeFile(blobFile(dir, sha256(text)), text);
      inner = {
        mediaType: 'application/vnd.oci.image.index.v1+json',
        digest: `sha256:${sha256(text)}`,
        size: text.length,
      };
    }
    await editIndex(dir, (index) => ({ ...index, manifests: [inner] }));
    await refused(dir, 'pack/index');
  });

  test.each([
    ['no manifest', { manifests: [] }],
    ['an unknown member', { subject: {} }],
    ['another version', { schemaVersion: 1 }],
  ])('#37 an index with %s', async (_, change) => {
    const dir = await signedPack();
    await editIndex(dir, (index) => ({ ...index, ...change }));
    await refused(dir, 'pack/index');
  });

  test('#37 an index with two manifests, though both be good', async () => {
    const dir = await signedPack();
    await editIndex(dir, ({ manifests }) => ({ schemaVersion: 2, manifests: [...manifests, ...manifests] }));
    await refused(dir, 'pack/index');
  });

  test.each([
    [{ urls: ['https://example.com/x'] }, 'pack/index'],
    [{ data: 'e30=' }, 'pack/index'],
    [{ annotations: { 'org.opencontainers.image.ref.name': 'v1', 'com.example.run': 'me' } }, 'pack/index'],
    [{ annotations: { 'org.opencontainers.image.ref.name': 'v1' } }, undefined],
    [{ artifactType: undefined }, undefined],
    [{ artifactType: 'application/x' }, 'pack/index'],
  ])('#37 an index whose manifest carries %j', async (more, code) => {
    const dir = await signedPack();
    await editIndex(dir, ({ manifests }) => ({ schemaVersion: 2, manifests: [{ ...manifests[0], ...more }] }));
    if (code === undefined) await (await openPack(dir, { trusted })).close();
    else await refused(dir, code);
  });

  test('#37 JSON nested a hundred thousand deep', async () => {
    const dir = await signedPack();
    await writeFile(join(dir, 'index.json'), '['.repeat(100_000));
    await refused(dir, 'pack/index');
    const other = await signedPack();
    await editManifest(other, (manifest) =>
      manifest.replace('"config":', `"a":${'['.repeat(100_000)}${']'.repeat(100_000)},"config":`),
    );
    await refused(other, 'pack/manifest');
    const third = await signedPack();
    await editLayer(third, configType, (config) =>
      config.replace('{', `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)},`),
    );
    await refused(third, 'pack/config');
  });
});

describe('#39 nothing is unpacked, so nothing swells', () => {
  test.each(['+gzip', '+zstd', '.gz'])('#39 a layer that calls itself %s', async (ending) => {
    const dir = await signedPack();
    await editManifest(dir, (manifest) =>
      manifest.replace('vnd.cncf.model.weight.v1.raw', `vnd.cncf.model.weight.v1.tar${ending}`),
    );
    await refused(dir, 'pack/compressed');
  });

  test('#39 a blob of a terabyte that should have 3,000 bytes is refused unread', async () => {
    const dir = await signedPack();
    await truncate(blobFile(dir, sha256(noise(3_000))), 1e12);
    // To read a terabyte would take longer than the test may.
    await refused(dir, 'pack/size-mismatch');
  });

  test('#39 a manifest or index of a terabyte', async () => {
    const dir = await signedPack();
    await truncate(join(dir, 'index.json'), 1e12);
    await refused(dir, 'pack/too-large');
    const other = await signedPack();
    const { digest } = (await readIndex(other)).manifests[0];
    await truncate(blobFile(other, digest), 1e12);
    await editIndex(other, ({ manifests }) => void (manifests[0].size = 1e12));
    await refused(other, 'pack/too-large');
  });
});

describe('#45 every byte of a signed pack is under its signature', () => {
  test.each([
    [
      'the artifact type',
      '"artifactType":"application/vnd.cncf.model.manifest.v1+json"',
      '"artifactType":"application/x"',
    ],
    ['a path', '"org.cncf.model.filepath":"model.onnx"', '"org.cncf.model.filepath":"../model"'],
    ['a media type', 'vnd.cncf.model.dataset.v1.raw', 'vnd.cncf.model.code.v1.raw'],
    ['a size', '"size":3000', '"size":3001'],
    ['an annotation more', '"schemaVersion":2', '"annotations":{"run":"me"},"schemaVersion":2'],
    ['a subject', '"schemaVersion":2', '"schemaVersion":2,"subject":{}'],
    ['white space', '"schemaVersion":2', '"schemaVersion": 2'],
    ['order', '"schemaVersion":2', '"schemaVersion":2.0'],
  ])('#45 manifest: %s', async (_, from, to) => {
    const dir = await signedPack();
    await editManifest(dir, (manifest) => manifest.replace(from, to));
    await refused(dir, 'pack/manifest');
  });

  test('#45 the model config', async () => {
    const dir = await signedPack();
    const manifest = await readManifest(dir);
    const old = blobFile(dir, manifest.config.digest);
    const config = (await readFile(old, 'utf8')).replace('"name":"labels"', '"name":"lapels"');
    await rm(old);
    await writeFile(blobFile(dir, sha256(config)), config);
    await editManifest(dir, (text) => text.replace(manifest.config.digest, `sha256:${sha256(config)}`));
    await refused(dir, 'pack/manifest');
  });

  test('#45 a config that another signature covered', async () => {
    const dir = await signedPack();
    await editLayer(dir, configType, (config) => config.replace('25000', '95000'));
    await refused(dir, 'pack/signature');
  });

  test('#45 the signature taken away is a pack unsigned', async () => {
    const dir = await signedPack();
    const manifest = await readManifest(dir);
    const { digest } = manifest.layers.at(-1);
    await rm(blobFile(dir, digest));
    const oldConfig = blobFile(dir, manifest.config.digest);
    const config = (await readFile(oldConfig, 'utf8')).replace(`,"${digest}"`, '');
    await rm(oldConfig);
    await writeFile(blobFile(dir, sha256(config)), config);
    await editManifest(dir, (text) => {
      const value = JSON.parse(text);
      value.layers.pop();
      value.config = { ...value.config, digest: `sha256:${sha256(config)}`, size: config.length };
      return JSON.stringify(value);
    });
    expect((await verifyPack(dir)).signedBy).toBeNull();
    await expect(openPack(dir, { trusted })).rejects.toMatchObject({ code: 'pack/unsigned' });
  });

  test.each([
    ['beside the layout', 'README'],
    ['beside the blobs', 'blobs/sha256/README'],
    ['as a blob', `blobs/sha256/${sha256('x')}`],
  ])('#45 a file that nobody lists, %s', async (_, name) => {
    const dir = await signedPack();
    await writeFile(join(dir, name), 'x');
    await refused(dir, 'pack/extra-data');
  });
});

describe('#44 the signature layer is bytes, not a meaning', () => {
  test('#44 S + L in place of S', async () => {
    const dir = await signedPack();
    await editLayer(dir, signatureType, (layer) => {
      const value = JSON.parse(layer);
      const bytes = malleated(Buffer.from(value.signature, 'base64'));
      return JSON.stringify({ ...value, signature: Buffer.from(bytes).toString('base64') });
    });
    await refused(dir, 'pack/signature');
  });

  test.each([
    ['white space', (layer: string) => layer.replace('{', '{ ')],
    ['a member twice', (layer: string) => layer.replace('{', '{"algorithm":"ed25519",')],
    ['a member more', (layer: string) => layer.replace('"keyId"', '"a":1,"keyId"')],
    ['a newline at the end', (layer: string) => `${layer}\n`],
    ['a byte order mark', (layer: string) => `\ufeff${layer}`],
    [
      'base64 with loose bits',
      (layer: string) => layer.replace(/(.)==/, (_, c: string) => `${c === 'Q' ? 'R' : 'Q'}==`),
    ],
    ['another key id', (layer: string) => layer.replace(/sha256:../, 'sha256:zz')],
    ['another algorithm', (layer: string) => layer.replace('ed25519', 'none')],
    ['a byte less', (layer: string) => layer.replace(/"signature":"..../, '"signature":"')],
  ])('#44 %s', async (_, edit) => {
    const dir = await signedPack();
    await editLayer(dir, signatureType, edit);
    await refused(dir, 'pack/signature');
  });

  test('#44 a key of small order', async () => {
    const dir = await signedPack();
    await editLayer(dir, signatureType, (layer) =>
      JSON.stringify({ ...JSON.parse(layer), publicKey: Buffer.alloc(32).toString('base64') }),
    );
    await refused(dir, 'pack/key-invalid');
  });
});

describe('the config', () => {
  test.each([
    ['a path that leads outside', 'model.onnx', '../x/m.onnx'],
    ['an absolute path', '"model.onnx"', '"/etc/passwd"'],
    ['a backslash', '"model.onnx"', '"m\\\\x.onnx"'],
    ['an empty segment', '"model.onnx"', '"m//x.onnx"'],
    ['a dot segment', '"model.onnx"', '"m/./x.onnx"'],
    ['a reserved path', '"model.onnx"', '"gone/../flotilla-pack.json"'],
    ['a file that is also a folder', 'text/copy.txt', 'text'],
    ['a path twice in other letters', 'text/copy.txt', 'text/KEYS.txt'],
    ['no model', '"role":"model"', '"role":"doc"'],
    ['two models', '"role":"keys"', '"role":"model"'],
    ['a role with a slash', 'flight-plan', 'x/../y'],
    ['golden vectors that are not there', '"golden":{"path":"golden', '"golden":{"path":"absent'],
    ['a tolerance below 0', '"atol":0.00001', '"atol":-1'],
    ['a tolerance too large for a number', '"atol":0.00001', '"atol":1e999'],
    ['a budget of 0', '25000', '0'],
    ['a negative size', '"bytes":3000', '"bytes":-1'],
    ['a size that is no whole number', '"bytes":3000', '"bytes":3000.5'],
    ['another format', 'flotilla-pack/1', 'flotilla-pack/2'],
    ['a member it does not know', '"name":"labels"', '"name":"labels","nick":"x"'],
    ['a member twice', '"name":"labels"', '"name":"labels","name":"labels"'],
    ['a prototype', '"annotations":{', '"annotations":{"__proto__":{"x":1},'],
    ['a control character in the name', '"name":"labels"', '"name":"la\\u001b[2Jbels"'],
  ])('%s', async (_, from, to) => {
    const dir = await signedPack();
    await editLayer(dir, configType, (config) => {
      expect(config).toContain(from);
      return config.replace(from, to);
    });
    await refused(dir, 'pack/config');
    expect(Object.hasOwn(Object.prototype, 'x')).toBe(false);
  });
});

test('files that are not sorted by path: one content has one name', async () => {
  const dir = await signedPack();
  await editLayer(dir, configType, (config) => {
    const value = JSON.parse(config);
    value.files.reverse();
    return JSON.stringify(value);
  });
  await refused(dir, 'pack/config');
});

describe('#38 a directory holds regular files with one name each', () => {
  const model = sha256(noise(3_000));

  test.each(['blobs/sha256', 'blobs'])('#38 %s is a symbolic link', async (name) => {
    const dir = await signedPack();
    await rename(join(dir, name), join(dir, '../elsewhere'));
    await symlink(join(dir, '../elsewhere'), join(dir, name));
    await refused(dir, 'pack/unsafe-entry');
  });

  test.each([`blobs/sha256/${model}`, 'index.json', 'oci-layout'])('#38 %s is a link, FIFO or folder', async (name) => {
    const dir = await signedPack();
    const file = join(dir, name);
    await link(file, join(dir, '../other-name'));
    await refused(dir, 'pack/unsafe-entry');
    await rm(file);
    await symlink(join(dir, '../other-name'), file);
    await refused(dir, 'pack/unsafe-entry');
    await rm(file);
    execFileSync('mkfifo', [file]);
    await refused(dir, 'pack/unsafe-entry');
    await rm(file);
    await mkdir(file);
    await refused(dir, 'pack/unsafe-entry');
  });

  test('a file changed after the pack was opened is never handed out', async () => {
    const dir = await signedPack();
    const pack = await openPack(dir);
    await writeFile(blobFile(dir, model), noise(3_000, 2));
    await expect(pack.file('model.onnx')).rejects.toMatchObject({ code: 'pack/digest-mismatch' });
    const out = join(dir, '../model.onnx');
    await expect(pack.extract('model.onnx', out)).rejects.toMatchObject({ code: 'pack/digest-mismatch' });
    await expect(readFile(out)).rejects.toThrow('ENOENT');
    await rm(blobFile(dir, model));
    await symlink('/etc/hostname', blobFile(dir, model));
    await expect(pack.file('model.onnx')).rejects.toMatchObject({ code: 'pack/unsafe-entry' });
    await pack.close();
  });

  test('the pack’s own path may be a link: slots are switched that way', async () => {
    const dir = await signedPack();
    await symlink(dir, join(dir, '../current'));
    await (await openPack(join(dir, '../current'), { trusted })).close();
  });
});

test.each([
  ['nothing', undefined, 'pack/not-found'],
  ['an empty file', '', 'pack/not-a-pack'],
  ['a text file', 'hello\n'.repeat(1_000), 'pack/not-a-pack'],
])('%s is not a pack', async (_, text, code) => {
  const path = join(await scratch(), 'x.pack');
  if (text !== undefined) await writeFile(path, text);
  await refused(path, code);
});

test('neither is an image of something else, nor a folder of anything', async () => {
  const dir = await signedPack();
  await editManifest(dir, (manifest) => manifest.replaceAll('vnd.flotilla.pack.v1.raw', 'vnd.oci.image.layer.v1.tar'));
  await refused(dir, 'pack/not-a-pack');
  const other = await scratch();
  await writeFile(join(other, 'model.onnx'), 'x');
  await refused(other, 'pack/not-a-pack');
});

test('a name that is asked for and is not in the pack', async () => {
  const pack = await openPack(await signedPack());
  for (const name of ['absent', '../model.onnx', 'constructor', ''])
    await expect(pack.file(name)).rejects.toMatchObject({ code: 'pack/no-such-file' });
  await expect(pack.readBlob(pack.digest, 0, 1e12)).rejects.toMatchObject({ code: 'pack/size-mismatch' });
  await expect(pack.readBlob(`sha256:${sha256('x')}`, 0, 1)).rejects.toMatchObject({ code: 'pack/missing-blob' });
  await pack.close();
});
