import { verify } from '@flotilla/pack';
import { type Birth, Chunk, Desired, DesiredRelease, ProtocolError, verifyDesired } from '@flotilla/protocol';
import { totalmem } from 'node:os';
import { Calls } from './calls.ts';
import { Counters } from './counters.ts';
import { AgentError } from './errors.ts';
import { type Identity, readIdentity, trustOf } from './identity.ts';
import { Interpreter } from './interpreter.ts';
import { Keyring } from './keyring.ts';
import { lockFolder } from './lock.ts';
import type { Effect } from './mind/event.ts';
import type { AgentState } from './mind/state.ts';
import { ModelHost } from './model-host.ts';
import { nodeDisk } from './node-disk.ts';
import type { AgentPorts, Clock, Disk, Engine, Link, LinkEvents } from './ports.ts';
import { Reporter } from './reporter.ts';
import { Store } from './store/store.ts';
import { systemClock } from './system-clock.ts';
import { Timers } from './timers.ts';
import { AGENT_VERSION } from './version.ts';

export interface AgentOptions {
  /** Belongs to this agent alone; made if need be. */
  readonly dataDir: string;
  /** The identity, or the folder that holds identity.json. */
  readonly identity: string | Identity;
  /** Instead of the identity's. */
  readonly brokerUrl?: string | undefined;
  /** Board's name or file, instead of the identity's. 'host': this machine. */
  readonly board?: string | undefined;
  /** Threads of a model. Default 1. */
  readonly threads?: number | undefined;
  /** RSS at which a model's process is ended. Default: nine tenths of the memory of the board or the machine. */
  readonly memoryCapBytes?: number | undefined;
  /** How long lowering, loading or one run of a model may take before its process is ended. Default 60000. */
  readonly modelTimeoutMs?: number | undefined;
  /** How long a candidate's latency is measured. Default 1000. */
  readonly measureMs?: number | undefined;
  /** One line, now and then, for people. Default: nothing. */
  readonly log?: ((line: string) => void) | undefined;
  /** Worlds of a test. */
  readonly ports?: Partial<AgentPorts> | undefined;
  readonly before?: ((effect: Effect) => void | Promise<void>) | undefined;
}

export interface Agent {
  readonly device: string;
  readonly online: boolean;
  readonly state: AgentState;
  /** Resolves after `close`; rejects where the agent had to end: `agent/identity-in-use`, `agent/broker-refused`. */
  readonly done: Promise<void>;
  close(): Promise<void>;
}

/** A broker that does not answer is no fault of the agent: after this long it serves and goes on trying. */
const FIRST_LINK_MS = 3000;

/**
 * Starts the agent: boots what its slots hold and then keeps a session with the broker.
 * @throws {AgentError} `agent/identity`, `agent/identity-mode`, `agent/identity-in-use`, `agent/state-newer`,
 *   `agent/storage`, `agent/broker-refused`; `boards/unknown`, `boards/invalid`
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { dataDir, log = () => undefined } = options;
  const identity = typeof options.identity === 'string' ? await readIdentity(options.identity) : options.identity;
  const trust = trustOf(identity);
  // Not at the top: whoever only provisions or asks for the state needs neither MQTT nor the runtime.
  const [{ MqttLink }, { runtimeEngine }] = await Promise.all([
    import('./link/mqtt-link.ts'),
    import('./runtime-engine.ts'),
  ]);
  const unlock = await lockFolder(dataDir);
  const clock = options.ports?.clock ?? systemClock;
  const random = options.ports?.random ?? Math.random;
  const disk = options.ports?.disk ?? nodeDisk;
  try {
    const keyring = await Keyring.open(disk, dataDir, trust);
    const engine =
      options.ports?.engine ?? (await runtimeEngine({ ...options, board: options.board ?? identity.board, keyring }));
    const counters = await Counters.open(disk, dataDir, clock, random);
    const store = new Store(disk, dataDir);
    const url = options.brokerUrl ?? identity.brokerUrl;
    const link = new MqttLink({ ...identity, url, clock, random, counters, log });
    const host = new ModelHost(engine);
    const who = { device: identity.device, board: engine.board };
    const reporter = new Reporter({ link, clock, disk }, counters, dataDir, who);
    const timers = new Timers(clock);
    const measureMs = options.measureMs ?? 1000;
    const { before } = options;
    const { boardClass } = engine;
    const parts = { store, host, engine, reporter, timers, keyring, boardClass, measureMs, log, before };
    const interpreter = new Interpreter(parts);
    interpreter.dispatch({ kind: 'booted', records: await store.records() });
    const running = { identity, keyring, link, host, reporter, interpreter, unlock, log };
    return await connect(running, clock, () => birthOf(engine, disk, dataDir));
  } catch (error) {
    await unlock();
    if (isTyped(error)) throw error; // a board that nobody knows, say
    throw new AgentError('agent/storage', `${dataDir} cannot be used: ${String(error)}`, {
      where: dataDir,
      cause: error,
    });
  }
}

/** Errors of every room carry `room/reason`. */
function isTyped(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.includes('/');
}

interface Running {
  readonly identity: Identity;
  readonly keyring: Keyring;
  readonly link: Link;
  readonly host: ModelHost;
  readonly reporter: Reporter;
  readonly interpreter: Interpreter;
  readonly unlock: () => Promise<void>;
  readonly log: (line: string) => void;
}

async function connect(running: Running, clock: Clock, birth: () => Promise<Birth>): Promise<Agent> {
  const { link, interpreter, reporter, host, identity } = running;
  const calls = new Calls({ link, host, reporter, interpreter });
  let finish: (error?: Error) => void = () => undefined;
  const done = new Promise<void>((resolve, reject) => {
    finish = (error) => (error === undefined ? resolve() : reject(error));
  });
  done.catch(() => undefined); // whoever waits for it hears of it; nobody must
  let closing: Promise<void> | undefined;
  const close = (error?: Error): Promise<void> => {
    closing ??= shutDown(running, calls).then(() => finish(error));
    return closing;
  };
  const first = new Promise<void>((resolve, reject) => {
    const stop = clock.after(FIRST_LINK_MS, resolve);
    const up = (): void => {
      stop();
      resolve();
    };
    const fatal = (error: Error): void => {
      stop();
      void close(error).then(() => reject(error));
    };
    link.start(linkEvents(running, calls, up, fatal), birth);
  });
  await first;
  return {
    device: identity.device,
    get online() {
      return link.online;
    },
    get state() {
      return interpreter.state;
    },
    done,
    close: () => close(),
  };
}

function linkEvents(running: Running, calls: Calls, up: () => void, fatal: (error: Error) => void): LinkEvents {
  const { interpreter, reporter, log } = running;
  let received: Promise<void> = Promise.resolve();
  return {
    up: () => {
      log('connected');
      interpreter.dispatch({ kind: 'link-up' });
      reporter.note();
      up();
    },
    down: (why) => {
      log(`link lost: ${why}`);
      interpreter.dispatch({ kind: 'link-down' });
      reporter.note();
    },
    // One after the other: a key that the first one brings must be kept before the second is judged by it.
    desired: (name, payload) => {
      received = received.then(() => receiveDesired(running, name, payload));
    },
    chunk: (payload) => {
      const { digest, offset, data, error } = Chunk.decode(payload);
      if (error === '') interpreter.dispatch({ kind: 'piece-arrived', digest, offset, data });
      else log(`no chunk of ${digest} at ${offset}: ${error}`); // asked again until the deadline
    },
    call: (payload) => calls.receive(payload),
    fatal,
  };
}

/** A release that is not signed as it should is told to the controller, and otherwise changes nothing. */
async function receiveDesired(running: Running, name: string, payload: Uint8Array): Promise<void> {
  const { identity, keyring, interpreter } = running;
  const { device } = identity;
  const refuse = (detail: string): void =>
    interpreter.dispatch({ kind: 'desired-refused', name, ...claimOf(payload), detail });
  let release: DesiredRelease;
  try {
    const { successions, keyId } = Desired.decode(payload);
    const key = keyring.controllerKey(successions, keyId);
    const check = (bytes: Uint8Array, signature: Uint8Array): boolean => verify(key, bytes, signature);
    release = verifyDesired(payload, { device, name, keyId: key.keyId, verify: check });
    await keyring.learn(successions, keyId);
  } catch (error) {
    return refuse(error instanceof ProtocolError ? error.message : `its new key cannot be kept: ${String(error)}`);
  }
  interpreter.dispatch({ kind: 'desired', release });
}

/** What an untrusted release says it is, so that the refusal can be matched to it. */
function claimOf(payload: Uint8Array): { readonly sequence: number; readonly digest: string } {
  try {
    const { sequence, digest } = DesiredRelease.decode(Desired.decode(payload).signed);
    return { sequence, digest };
  } catch {
    return { sequence: 0, digest: '' };
  }
}

async function shutDown({ link, interpreter, host, reporter, unlock }: Running, calls: Calls): Promise<void> {
  calls.stop();
  // First of all: models that end because the agent does must not look like models that failed.
  const stopped = interpreter.stop();
  await link.close();
  await stopped;
  await host.close();
  reporter.note();
  await reporter.settled();
  await unlock();
}

async function birthOf(engine: Engine, disk: Disk, dataDir: string): Promise<Birth> {
  return {
    agentVersion: AGENT_VERSION,
    runtimeVersion: engine.version,
    board: engine.board,
    boardClass: engine.boardClass,
    ramBytes: totalmem(),
    freeStorageBytes: await disk.freeBytes(dataDir).catch(() => 0),
  };
}
