import { crc32 } from 'node:zlib';

export interface NpyArray {
  /** NumPy's type string: '<f4', '|u1', … */
  readonly descr: string;
  readonly dims: readonly number[];
  readonly data: ArrayBufferView;
}

/** A NumPy `.npz`: a zip of stored `.npy` members, no time stamps, so that the same arrays give the same bytes. */
export function npz(arrays: { readonly [name: string]: NpyArray }): Uint8Array {
  const members: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, array] of Object.entries(arrays)) {
    const path = Buffer.from(`${name}.npy`);
    const body = npy(array);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0); // version needed; flags, method and time stay 0 (stored)
    common.writeUInt16LE(0x21, 8); // 1980-01-01, the first date a zip knows
    common.writeUInt32LE(crc32(body), 10);
    common.writeUInt32LE(body.length, 14);
    common.writeUInt32LE(body.length, 18);
    common.writeUInt16LE(path.length, 22);
    members.push(Buffer.from('PK\x03\x04', 'latin1'), common, path, body);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, tail, path);
    offset += 4 + common.length + path.length + body.length;
  }
  const listing = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(members.length / 4, 8);
  end.writeUInt16LE(members.length / 4, 10);
  end.writeUInt32LE(listing.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...members, listing, end]);
}

function npy({ descr, dims, data }: NpyArray): Buffer {
  const shape = dims.length === 1 ? `(${dims[0]},)` : `(${dims.join(', ')})`;
  const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  // The format wants the data at a multiple of 64.
  const padded = `${header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11)}\n`;
  const prefix = Buffer.from('\x93NUMPY\x01\x00\x00\x00', 'latin1');
  prefix.writeUInt16LE(padded.length, 8);
  return Buffer.concat([prefix, Buffer.from(padded), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}
