export interface FrameLimits {
  /** Longest CONNECT packet, in bytes. */
  readonly maxConnectBytes: number;
  /** Longest packet of any other kind. */
  readonly maxPacketBytes: number;
}

const CONNECT = 1;
// MQTT 3.1.1 §2.2.1: PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT.
const FROM_CLIENT = new Set([3, 4, 5, 6, 7, 8, 10, 12, 14]);

/** Follows the packets in a stream of bytes by their fixed headers alone; holds nothing of them. */
export class FrameScanner {
  firstPacketEnded = false;
  private readonly limits: FrameLimits;
  private type = -1; // −1: between packets
  private lengthBytes = 0;
  private length = 0;
  private left = 0; // of the packet's body; 0 with type ≥ 0: still in the length

  constructor(limits: FrameLimits) {
    this.limits = limits;
  }

  /** @returns how many of `bytes` belong to the first packet, or what is wrong with it */
  untilFirstPacketEnds(bytes: Uint8Array): number | Error {
    if (this.firstPacketEnded) return 0;
    return this.walk(bytes);
  }

  /** @returns what is wrong with the packets in `bytes`, if anything */
  scan(bytes: Uint8Array): Error | undefined {
    for (let at = 0; at < bytes.length; ) {
      const used = this.walk(bytes.subarray(at));
      if (used instanceof Error) return used;
      at += used;
    }
    return undefined;
  }

  /** Walks to the end of the packet at hand, or of the bytes. */
  private walk(bytes: Uint8Array): number | Error {
    let at = 0;
    while (at < bytes.length) {
      if (this.left > 0) {
        const used = Math.min(this.left, bytes.length - at);
        at += used;
        this.left -= used;
        if (this.left > 0) return at;
        this.endPacket();
        return at;
      }
      const fault = this.header(bytes[at] ?? 0);
      at++;
      if (fault !== undefined) return fault;
      if (this.type < 0) return at; // a packet without a body
    }
    return at;
  }

  private header(byte: number): Error | undefined {
    if (this.type < 0) {
      this.type = byte >> 4;
      if (!this.firstPacketEnded && this.type !== CONNECT) return new Error('the first packet is not a CONNECT');
      if (this.firstPacketEnded && !FROM_CLIENT.has(this.type))
        return new Error(`packet type ${this.type} from a client`);
      return undefined;
    }
    this.length += (byte & 0x7f) << (7 * this.lengthBytes);
    this.lengthBytes++;
    if (byte >= 0x80) return this.lengthBytes === 4 ? new Error('a remaining length of more than 4 bytes') : undefined;
    const limit = this.firstPacketEnded ? this.limits.maxPacketBytes : this.limits.maxConnectBytes;
    if (this.length > limit) return new Error(`a packet of ${this.length} bytes; the limit is ${limit}`);
    this.left = this.length;
    if (this.left === 0) this.endPacket();
    return undefined;
  }

  private endPacket(): void {
    this.firstPacketEnded = true;
    this.type = -1;
    this.length = 0;
    this.lengthBytes = 0;
    this.left = 0;
  }
}
