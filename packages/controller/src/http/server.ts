import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { type Endpoint, listen, urlOf } from '../listen.ts';
import { type AppPorts, createApp } from './app.ts';

export interface HttpServer {
  readonly url: string;
  close(): Promise<void>;
}

const HEADERS_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 1024;

/** @throws {ControllerError} `controller/port-in-use`, `controller/listen` */
export async function startHttpServer(endpoint: Endpoint, ports: AppPorts): Promise<HttpServer> {
  const app = createApp(ports);
  const server = createAdaptorServer({
    fetch: app.fetch,
    overrideGlobalObjects: false,
    serverOptions: {
      headersTimeout: Math.min(HEADERS_TIMEOUT_MS, ports.bodyTimeoutMs),
      requestTimeout: 0, // bodies have limits of their own: a pack may take long as long as it moves
      connectionsCheckingInterval: 1000,
      keepAliveTimeout: 5000,
      maxHeaderSize: 16_384,
    },
  }) as Server;
  server.maxConnections = MAX_CONNECTIONS;
  server.on('clientError', answerClientError);
  const port = await listen(server, endpoint, 'http');
  return {
    url: urlOf('http', endpoint, port),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      const force = setTimeout(() => server.closeAllConnections(), 500);
      await closed;
      clearTimeout(force);
    },
  };
}

/** What Node's parser refuses never reaches the app: answer in the same shape, and hang up. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const [status, code, message] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ['408 Request Timeout', 'controller/timeout', 'the request did not arrive in time']
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? ['431 Request Header Fields Too Large', 'controller/too-large', 'the headers are too long']
        : ['400 Bad Request', 'controller/request', 'not an HTTP request'];
  const body = JSON.stringify({ error: { code, message } });
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
  );
}
