import { execFileSync } from 'node:child_process';
import { appendFile, mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { gzipSync } from 'node:zlib';
import { type Header, pack as tarPack } from 'tar-stream';
import { describe, expect, test } from 'vitest';
import { createPack, openPack } from '../src/index.ts';
import { contents, scratch } from './sample.ts';
import { filesIn, key, sha256, signedPack } from './tamper.ts';

type Entry = Partial<Header> & { readonly name: string } & { readonly content?: Uint8Array };

/** The entries of a good pack, to which a test adds its own. */
async function goodEntries(): Promise<readonly Entry[]> {
  return [...(await filesIn(await signedPack()))].map(([name, content]) => ({ name, content }));
}

/** A tar by another hand than ours. */
async function tarBytes(entries: readonly Entry[]): Promise<Buffer> {
  const tar = tarPack();
  for (const { content, ...header } of entries) tar.entry(header, content === undefined ? '' : Buffer.from(content));
  tar.finalize();
  const parts: Buffer[] = [];
  await pipeline(tar, new Writable({ write: (chunk: Buffer, _, done) => (parts.push(chunk), done()) }));
  return Buffer.concat(parts);
}

async function written(bytes: Uint8Array): Promise<string> {
  const path = join(await scratch(), 'x.pack');
  await writeFile(path, bytes);
  return path;
}

async function refused(bytes: Uint8Array, code: string): Promise<void> {
  await expect(openPack(await written(bytes))).rejects.toMatchObject({ name: 'PackError', code });
}

/** Changes a header and makes its checksum right again. */
function editHeader(tar: Buffer, at: number, edit: (header: Buffer) => void): Buffer {
  const bytes = Buffer.from(tar);
  const header = bytes.subarray(at, at + 512);
  edit(header);
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

test('other people’s tars are read: tar-stream’s, GNU tar’s, with folders and without', async () => {
  await (await openPack(await written(await tarBytes(await goodEntries())))).close();
  const dir = await signedPack();
  for (const [format, code] of [
    ['gnu', undefined],
    ['ustar', undefined],
    ['posix', 'pack/tar'], // writes PAX headers for times
    ['v7', 'pack/not-a-pack'], // tells no file from a device
  ]) {
    const out = join(dir, `../${format}.pack`);
    execFileSync('tar', ['-cf', out, `--format=${format}`, '-C', dir, '.']);
    const opened = openPack(out, { trusted: [key.publicKey] });
    if (code === undefined) await (await opened).close();
    else await expect(opened).rejects.toMatchObject({ code });
  }
});

test('ours is read by GNU tar, and says nothing of its maker', async () => {
  const dir = await scratch();
  await createPack(join(dir, 'x.pack'), contents, { key });
  const listing = execFileSync('tar', ['-tvf', join(dir, 'x.pack')], {
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC' },
  });
  for (const line of listing.trim().split('\n')) expect(line).toMatch(/^-rw-r--r-- 0\/0 +\d+ 1970-01-01 00:00 /);
  await mkdir(join(dir, 'unpacked'));
  execFileSync('tar', ['-xf', join(dir, 'x.pack'), '-C', join(dir, 'unpacked')]);
  await createPack(join(dir, 'directory'), contents, { key });
  expect(await filesIn(join(dir, 'unpacked'))).toEqual(await filesIn(join(dir, 'directory')));
});

describe('#38 what a tar can hide', () => {
  const victim = '/etc/hostname';

  test.each<readonly [string, Entry]>([
    ['../', { name: '../x' }],
    ['../ inside', { name: 'blobs/../../x' }],
    ['an absolute name', { name: '/etc/x' }],
    ['a name of no layout', { name: 'blobs/sha512/x' }],
    ['upper-case hex', { name: `blobs/sha256/${sha256('x').toUpperCase()}` }],
    ['a NUL in a name', { name: `blobs/sha256/\0${sha256('x')}` }],
    ['a symbolic link', { name: `blobs/sha256/${sha256('x')}`, type: 'symlink', linkname: victim }],
    ['a hard link', { name: `blobs/sha256/${sha256('x')}`, type: 'link', linkname: 'index.json' }],
    ['a character device', { name: `blobs/sha256/${sha256('x')}`, type: 'character-device' }],
    ['a block device', { name: `blobs/sha256/${sha256('x')}`, type: 'block-device' }],
    ['a FIFO', { name: `blobs/sha256/${sha256('x')}`, type: 'fifo' }],
    ['a folder of another name', { name: 'etc/', type: 'directory' }],
  ])('#38 %s', async (_, entry) => {
    const entries = await goodEntries();
    await refused(await tarBytes([entry, ...entries]), 'pack/unsafe-entry');
    await refused(await tarBytes([...entries, entry]), 'pack/unsafe-entry');
  });

  test('#38 one name twice, with the same bytes or others', async () => {
    const entries = await goodEntries();
    const [first] = entries;
    if (first === undefined) throw new Error('a pack without entries');
    await refused(await tarBytes([...entries, first]), 'pack/unsafe-entry');
    await refused(await tarBytes([...entries, { ...first, name: `./${first.name}` }]), 'pack/unsafe-entry');
    await refused(
      await tarBytes([...entries, { name: 'index.json', content: Buffer.from('{}') }]),
      'pack/unsafe-entry',
    );
  });

  test('#38 a PAX header that overrides a size, for one entry or for all', async () => {
    const entries = await goodEntries();
    const pax = Buffer.from('12 size=100\n');
    const tar = await tarBytes([{ name: 'oci-layout', content: pax }, ...entries]);
    for (const type of ['x', 'g'])
      await refused(
        editHeader(tar, 0, (header) => header.write(type, 156)),
        'pack/tar',
      );
    await refused(await tarBytes([...entries, { name: 'x', pax: { size: '1' } }]), 'pack/tar');
  });

  test.each(['S', 'L', 'K', 'D', 'M', 'V', '7', 'Z', 'X'])(
    '#38 entry type %s (sparse, long name, multi-volume …)',
    async (type) => {
      const tar = await tarBytes(await goodEntries());
      await refused(
        editHeader(tar, 0, (header) => header.write(type, 156)),
        'pack/tar',
      );
    },
  );

  test('#38 GNU tar’s own sparse files and long names', async () => {
    const dir = await signedPack();
    const blob = join(dir, 'blobs/sha256', sha256('x'));
    await writeFile(blob, '');
    await truncate(blob, 1 << 20);
    const out = join(dir, '../sparse.pack');
    execFileSync('tar', ['-cSf', out, '--format=gnu', '-C', dir, '.']);
    await expect(openPack(out)).rejects.toMatchObject({ code: 'pack/tar' });
    await writeFile(`${blob}${'x'.repeat(100)}`, '');
    execFileSync('tar', ['-cf', out, '--format=gnu', '-C', dir, '.']);
    await expect(openPack(out)).rejects.toMatchObject({ code: 'pack/tar' });
  });

  test('#38 a size of 8 GiB in base 256, the largest in octal, a negative one, and none', async () => {
    const tar = await tarBytes(await goodEntries());
    const sizes: readonly (readonly [Buffer, string])[] = [
      [Buffer.from('800000000000000200000000', 'hex'), 'pack/tar'],
      [Buffer.from('ffffffffffffffffffffffff', 'hex'), 'pack/tar'],
      [Buffer.from('77777777777\0'), 'pack/truncated'],
      [Buffer.from('777777777777'), 'pack/truncated'],
      [Buffer.from('-0000000001\0'), 'pack/tar'],
      [Buffer.from('0x000000001\0'), 'pack/tar'],
      [Buffer.alloc(12), 'pack/tar'],
    ];
    for (const [size, code] of sizes)
      await refused(
        editHeader(tar, 0, (header) => size.copy(header, 124)),
        code,
      );
    const path = await written(editHeader(tar, 0, (header) => header.write('\x80', 124, 'latin1')));
    await expect(openPack(path)).rejects.toThrow('8 GiB');
  });

  test('#38 cut at every block, and inside blocks', async () => {
    const tar = await tarBytes(await goodEntries());
    for (let length = 512; length < tar.length; length += 512) {
      const path = await written(tar.subarray(0, length));
      await expect(openPack(path)).rejects.toMatchObject({ code: 'pack/truncated' });
    }
    for (const length of [1, 511]) await refused(tar.subarray(0, length), 'pack/not-a-pack');
    for (const length of [513, 1_025, tar.length - 1]) await refused(tar.subarray(0, length), 'pack/truncated');
  });

  test('#38 a second archive, or anything, after the end', async () => {
    const tar = await tarBytes(await goodEntries());
    await refused(Buffer.concat([tar, tar]), 'pack/extra-data');
    await refused(Buffer.concat([tar, Buffer.from('x')]), 'pack/extra-data');
    await refused(Buffer.concat([tar, Buffer.alloc(20_480)]), 'pack/extra-data');
    await refused(Buffer.concat([tar.subarray(0, -512), tar]), 'pack/extra-data');
  });

  test('#38 bytes in the padding after an entry', async () => {
    const tar = await tarBytes(await goodEntries());
    const size = Number.parseInt(tar.toString('latin1', 124, 135), 8);
    const bytes = Buffer.from(tar);
    bytes[512 + size] = 1;
    await refused(bytes, 'pack/extra-data');
  });

  test('#38 a wrong checksum', async () => {
    const tar = await tarBytes(await goodEntries());
    tar.write('x', 0);
    await refused(tar, 'pack/tar');
  });

  test('#38 more entries than any pack has', async () => {
    const tar = await tarBytes([{ name: 'oci-layout' }]);
    const many = Array.from({ length: 5_000 }, (_, index) =>
      editHeader(tar.subarray(0, 512), 0, (header) =>
        header.fill(0, 0, 100).write(`blobs/sha256/${sha256(String(index))}`),
      ),
    );
    await refused(Buffer.concat([...many, Buffer.alloc(1_024)]), 'pack/too-large');
  });

  test('#39 a compressed tar is not opened', async () => {
    await refused(gzipSync(await tarBytes(await goodEntries())), 'pack/not-a-pack');
  });
});

test('a tar changed after it was opened is never handed out', async () => {
  const path = join(await scratch(), 'x.pack');
  await createPack(path, contents);
  const pack = await openPack(path);
  const bytes = await readFile(path);
  const model = bytes.indexOf(Buffer.from(await pack.file('model.onnx')));
  bytes[model] = (bytes[model] ?? 0) ^ 1;
  await writeFile(path, bytes);
  await expect(pack.file('model.onnx')).rejects.toMatchObject({ code: 'pack/digest-mismatch' });
  await truncate(path, 600);
  await expect(pack.file('model.onnx')).rejects.toMatchObject({ code: 'pack/changed' });
  await pack.close();
  await appendFile(path, '');
  expect((await stat(path)).size).toBe(600);
});

test('#45 one bit turned anywhere in a signed tar: refused, but for the two end marks of a header’s checksum', async () => {
  const path = join(await scratch(), 'x.pack');
  await createPack(path, contents, { key });
  const bytes = await readFile(path);
  const taken: string[] = [];
  for (let at = 0; at < bytes.length; at += 67) {
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
    await writeFile(path, bytes);
    const pack = await openPack(path, { trusted: [key.publicKey] }).catch((error: unknown) => error);
    if (!(pack instanceof Error)) taken.push(`byte ${at} of a block: ${at % 512}`);
    else expect(pack).toHaveProperty('name', 'PackError');
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
  }
  for (const place of taken) expect(place).toMatch(/: (148|154|155)$/);
});
