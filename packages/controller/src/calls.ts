import { randomUUID } from 'node:crypto';
import { type Answer, Call, topicFor } from '@flotilla/protocol';
import type { Link } from './broker/link.ts';
import { ControllerError } from './errors.ts';
import type { Registry } from './registry.ts';

export interface CallRequest {
  readonly name: string;
  readonly prompt: string;
  readonly maxTokens: number;
  readonly benchMs: number;
  readonly temperature?: number | undefined;
  readonly seed?: number | undefined;
  /** JSON Schema, as text. */
  readonly schema?: string | undefined;
  readonly adapter?: string | undefined;
  readonly timeoutMs: number;
}

const MAX_PENDING = 256;

interface Pending {
  readonly device: string;
  readonly settle: (answer: Answer) => void;
}

/** Requests to models on devices, and their answers. Nothing of them outlives the controller. */
export class Calls {
  private readonly registry: Registry;
  private readonly link: Link;
  private readonly pending = new Map<string, Pending>();

  constructor(registry: Registry, link: Link) {
    this.registry = registry;
    this.link = link;
  }

  /**
   * @throws {ControllerError} `controller/device-offline`, `controller/device-silent`, `controller/device-error`,
   *   `controller/overloaded`
   */
  async call(id: string, { timeoutMs, ...request }: CallRequest): Promise<Answer> {
    const device = this.registry.get(id);
    if (device === undefined) throw new ControllerError('controller/not-found', `no device ${id}`, { where: id });
    if (!device.online) throw new ControllerError('controller/device-offline', `${id} is not connected`, { where: id });
    if (this.pending.size >= MAX_PENDING)
      throw new ControllerError('controller/overloaded', 'too many calls are under way');
    const callId = randomUUID();
    const answered = this.wait(callId, id, timeoutMs);
    const topic = topicFor({ fleet: device.fleet, device: id }, 'call');
    await this.link.publish(topic, Call.encode({ id: callId, ...request }));
    const answer = await answered;
    if (answer.error !== '')
      throw new ControllerError('controller/device-error', `${id} answered: ${answer.error}`, { where: id });
    return answer;
  }

  /** An answer counts only from the device that was asked. */
  answered(device: string, answer: Answer): void {
    const pending = this.pending.get(answer.id);
    if (pending?.device === device) pending.settle(answer);
  }

  private wait(callId: string, device: string, timeoutMs: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(callId);
        const message = `${device} did not answer within ${timeoutMs / 1000} s`;
        reject(new ControllerError('controller/device-silent', message, { where: device }));
      }, timeoutMs);
      const settle = (answer: Answer): void => {
        clearTimeout(timer);
        this.pending.delete(callId);
        resolve(answer);
      };
      this.pending.set(callId, { device, settle });
    });
  }
}
