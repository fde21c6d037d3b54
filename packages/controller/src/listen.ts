import { type AddressInfo, createServer, type Server } from 'node:net';
import { ControllerError } from './errors.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, `[v6]:port`, `:port` or `port`; without a host it is this machine only. */
export function parseEndpoint(text: string, what: string): Endpoint {
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535)
    throw new ControllerError('controller/request', `${what} ${JSON.stringify(text)} is not host:port`, {
      where: what,
    });
  return { host: match[1] ?? (match[2] || '127.0.0.1'), port };
}

/**
 * @returns the port that was given
 * @throws {ControllerError} `controller/port-in-use`, `controller/listen`
 */
export async function listen(server: Server, { host, port }: Endpoint, what: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    const fail = (cause: NodeJS.ErrnoException): void => reject(explain(cause, `${host}:${port}`, what));
    server.once('error', fail);
    server.listen({ host, port }, () => {
      server.off('error', fail);
      resolve();
    });
  });
  return (server.address() as AddressInfo).port;
}

/** Finds out early, before a database is opened for nothing. @throws as `listen` */
export async function checkFree(endpoint: Endpoint, what: string): Promise<void> {
  if (endpoint.port === 0) return;
  const server = createServer();
  await listen(server, endpoint, what);
  await new Promise((resolve) => server.close(resolve));
}

function explain(cause: NodeJS.ErrnoException, where: string, what: string): ControllerError {
  if (cause.code === 'EADDRINUSE')
    return new ControllerError('controller/port-in-use', `${what}: ${where} is taken by another program`, {
      where,
      cause,
      hint: 'stop it, or choose another port',
    });
  return new ControllerError(
    'controller/listen',
    `${what}: cannot listen on ${where} (${cause.code ?? cause.message})`,
    {
      where,
      cause,
      hint: 'choose an address of this machine and a port that this user may open',
    },
  );
}

/** What others connect to: a wildcard address is no address. */
export function urlOf(scheme: string, { host }: Endpoint, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `${scheme}://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}
