import { checkName } from '@flotilla/protocol';
import { mkdir, stat } from 'node:fs/promises';
import { AgentError } from './errors.ts';
import { checkIdentity, type Identity, identityExists, identityFile, keepIdentity } from './identity.ts';

export interface ProvisionOptions {
  /** `http://host:port` of the controller. */
  readonly controllerUrl: string;
  /** The controller's admin token. It is used here and not kept. */
  readonly token: string;
  readonly board: string;
  /** Where identity.json goes; made if need be. */
  readonly identityDir: string;
  /** Default: the controller chooses. */
  readonly name?: string | undefined;
  /** Default: the controller's. */
  readonly fleet?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Makes the device known to its controller and keeps what it issued.
 * @throws {AgentError} `agent/identity-exists`, `agent/provision`, `agent/unreachable`, `agent/storage`
 * @throws {ProtocolError} `protocol/topic` for a name that cannot be one
 */
export async function provisionAgent(options: ProvisionOptions): Promise<Identity> {
  const { identityDir, name, fleet, board } = options;
  if (name !== undefined) checkName(name, 'device');
  if (fleet !== undefined) checkName(fleet, 'fleet');
  const path = identityFile(identityDir);
  // Before the controller is asked: it would hold a device whose secret nobody has.
  if (await hasIdentity(identityDir)) throw identityExists(path);
  await mkdir(identityDir, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    throw new AgentError('agent/storage', `${identityDir} cannot be made: ${String(cause)}`, {
      where: identityDir,
      cause,
    });
  });
  return keepIdentity(identityDir, async () =>
    checkIdentity(await post(options, { device: name, fleet, board }), "the controller's answer"),
  );
}

/** Whether the folder holds an identity already. */
export async function hasIdentity(identityDir: string): Promise<boolean> {
  return (await stat(identityFile(identityDir)).catch(() => undefined)) !== undefined;
}

async function post({ controllerUrl, token, signal }: ProvisionOptions, body: object): Promise<unknown> {
  let response: Response;
  let text: string;
  const url = endpointOf(controllerUrl);
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal:
        signal === undefined ? AbortSignal.timeout(30_000) : AbortSignal.any([signal, AbortSignal.timeout(30_000)]),
    });
    text = await response.text();
  } catch (cause) {
    signal?.throwIfAborted();
    const why = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause);
    throw new AgentError('agent/unreachable', `no controller at ${url.origin}: ${why}`, { where: url.origin, cause });
  }
  const answer = parse(text);
  if (response.ok) return answer;
  throw new AgentError('agent/provision', `the controller refuses: ${messageOf(answer) ?? `HTTP ${response.status}`}`, {
    where: url.href,
    hint: response.status === 401 ? 'use the admin token that `flotilla controller start` printed' : undefined,
  });
}

function endpointOf(controllerUrl: string): URL {
  if (/^https?:/.test(controllerUrl) && URL.canParse(controllerUrl)) return new URL('/v1/devices', controllerUrl);
  throw new AgentError('agent/unreachable', `${JSON.stringify(controllerUrl)} is no address of a controller`, {
    hint: 'write http://host:8080',
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function messageOf(answer: unknown): string | undefined {
  const { error } = (answer ?? {}) as { readonly error?: { readonly message?: unknown } };
  return typeof error?.message === 'string' ? error.message.slice(0, 300) : undefined;
}
