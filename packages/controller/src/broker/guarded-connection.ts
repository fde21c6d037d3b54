import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { type FrameLimits, FrameScanner } from './frames.ts';

export interface GuardLimits extends FrameLimits {
  /** From the TCP connection to an accepted CONNECT. */
  readonly connectTimeoutMs: number;
}

/**
 * A socket as the broker sees it. Aedes buffers a packet until it is whole, however long it says it will be and
 * whoever sends it (moscajs/aedes#1086), so the lengths are judged here, before a byte reaches it. What follows the
 * CONNECT stays in the socket until the device is accepted.
 */
export class GuardedConnection extends Duplex {
  readonly address: string;
  private readonly socket: Socket;
  private readonly scanner: FrameScanner;
  private readonly timer: NodeJS.Timeout;
  private held: Uint8Array[] = [];
  private accepted = false;

  constructor(socket: Socket, limits: GuardLimits) {
    super({ allowHalfOpen: false });
    this.socket = socket;
    this.scanner = new FrameScanner(limits);
    this.address = socket.remoteAddress ?? '';
    this.timer = setTimeout(() => this.destroy(new Error('no CONNECT in time')), limits.connectTimeoutMs);
    socket.on('data', (bytes) => this.arrive(bytes));
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
    socket.setNoDelay(true);
  }

  /** The broker has accepted the CONNECT: what was held back may pass. */
  accept(): void {
    if (this.accepted) return;
    this.accepted = true;
    clearTimeout(this.timer);
    const held = this.held;
    this.held = [];
    for (const bytes of held) this.pass(bytes);
    if (!this.destroyed) this.socket.resume();
  }

  private arrive(bytes: Uint8Array): void {
    if (this.accepted) return this.pass(bytes);
    const cut = this.scanner.untilFirstPacketEnds(bytes);
    if (cut instanceof Error) return void this.destroy(cut);
    if (cut > 0) this.forward(bytes.subarray(0, cut));
    if (cut === bytes.length && !this.scanner.firstPacketEnded) return;
    if (cut < bytes.length) this.held.push(bytes.subarray(cut));
    this.socket.pause();
  }

  private pass(bytes: Uint8Array): void {
    const fault = this.scanner.scan(bytes);
    if (fault !== undefined) return void this.destroy(fault);
    this.forward(bytes);
  }

  private forward(bytes: Uint8Array): void {
    if (!this.destroyed && !this.push(bytes)) this.socket.pause();
  }

  override _read(): void {
    if (this.accepted || !this.scanner.firstPacketEnded) this.socket.resume();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.socket.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.timer);
    this.held = [];
    // A refused CONNECT is answered before the broker hangs up; give the answer a moment to leave.
    if (error === null) this.socket.destroySoon();
    else this.socket.destroy();
    done(error);
  }
}
