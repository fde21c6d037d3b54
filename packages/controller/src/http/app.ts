import { type Context, Hono } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { ControllerError } from '../errors.ts';
import type { Service } from '../service.ts';
import type { Timeline } from '../timeline.ts';
import type { Role, Tokens } from '../tokens.ts';
import { notIdle, readJson } from './body.ts';
import { errorBody, statusOf } from './errors.ts';
import { eventStream } from './event-stream.ts';
import { callSchema, provisionSchema, releaseSchema, rolloutSchema, tagsSchema, tokenSchema } from './schemas.ts';

export interface AppPorts {
  readonly service: Service;
  readonly timeline: Timeline;
  readonly tokens: Tokens;
  /** Counters for people who look for what is wrong. */
  readonly statistics: () => { readonly [name: string]: unknown };
  readonly bodyTimeoutMs: number;
  /** A fault of the controller's own. */
  readonly onError: (error: unknown) => void;
  /** Aborted when the controller closes. */
  readonly signal: AbortSignal;
}

/** The HTTP API: authentication, validation, and one call of the service per route. */
export function createApp(ports: AppPorts): Hono {
  const { service, timeline, tokens, bodyTimeoutMs, signal } = ports;
  const app = new Hono();
  const json = <S extends Parameters<typeof readJson>[1]>(context: Context, schema: S) =>
    readJson(context.req.raw, schema, bodyTimeoutMs);

  app.onError((error, context) => {
    const body = errorBody(error);
    if (body.error.code === 'controller/internal') ports.onError(error);
    // What is left of the body is not read: the connection cannot be used again, and the client must know.
    if (context.req.method !== 'GET') context.header('connection', 'close');
    return context.json(body, statusOf(body.error.code) as ContentfulStatusCode);
  });
  app.notFound((context) => {
    const error = new ControllerError('controller/not-found', 'there is nothing at this path');
    return context.json(errorBody(error), 404);
  });
  app.use(async (context, next) => {
    await next();
    context.header('cache-control', 'no-store');
    context.header('x-content-type-options', 'nosniff');
  });

  app.use(async (context, next) => {
    // No id holds one, and PostgreSQL's text cannot.
    if (context.req.url.includes('%00'))
      throw new ControllerError('controller/not-found', 'there is nothing at this path');
    await next();
  });

  app.get('/healthz', (context) => context.json({ ok: true }));
  app.use('/v1/*', async (context, next) => {
    authorize(context, tokens);
    await next();
  });

  app.get('/v1/statistics', (context) => context.json(ports.statistics()));
  app.post('/v1/tokens', async (context) => {
    const { role, label } = await json(context, tokenSchema);
    return context.json(await service.createToken(role, label), 201);
  });

  app.get('/v1/devices', async (context) => context.json({ devices: await service.queries.devices() }));
  app.post('/v1/devices', async (context) =>
    context.json(await service.provision(await json(context, provisionSchema)), 201),
  );
  app.get('/v1/devices/:id', async (context) => context.json(await service.device(context.req.param('id'))));
  app.delete('/v1/devices/:id', async (context) => context.json(await service.removeDevice(context.req.param('id'))));
  app.put('/v1/devices/:id/tags', async (context) => {
    const { tags } = await json(context, tagsSchema);
    return context.json(await service.setTags(context.req.param('id'), tags));
  });
  app.get('/v1/devices/:id/telemetry', async (context) =>
    context.json({ telemetry: await service.telemetry(context.req.param('id')) }),
  );
  app.post('/v1/devices/:id/call', async (context) =>
    context.json(await service.call(context.req.param('id'), await json(context, callSchema))),
  );

  app.post('/v1/packs', async (context) => {
    const { body } = context.req.raw;
    if (body === null) throw new ControllerError('controller/request', 'the body must be a pack, as one tar');
    const content = notIdle(body as unknown as AsyncIterable<Uint8Array>, bodyTimeoutMs);
    return context.json(await service.addPack(content), 201);
  });
  app.get('/v1/packs/:digest', async (context) => context.json(await service.pack(context.req.param('digest'))));

  app.get('/v1/releases', async (context) => context.json({ releases: await service.queries.releases() }));
  app.post('/v1/releases', async (context) => {
    const { name, version, digest } = await json(context, releaseSchema);
    return context.json(await service.publishRelease(name, version, digest), 201);
  });

  app.get('/v1/rollouts', async (context) => context.json({ rollouts: await service.queries.rollouts(100) }));
  app.post('/v1/rollouts', async (context) =>
    context.json(await service.createRollout(await json(context, rolloutSchema)), 201),
  );
  app.get('/v1/rollouts/:id', async (context) => context.json(await service.rollout(context.req.param('id'))));
  app.post('/v1/rollouts/:id/pause', async (context) =>
    context.json(await service.pauseRollout(context.req.param('id'))),
  );
  app.post('/v1/rollouts/:id/resume', async (context) =>
    context.json(await service.resumeRollout(context.req.param('id'))),
  );
  app.post('/v1/rollouts/:id/abort', async (context) =>
    context.json(await service.abortRollout(context.req.param('id'))),
  );

  app.get('/v1/events', (context) => {
    const after = context.req.header('last-event-id') ?? context.req.query('after');
    const filter = {
      after: after === undefined ? undefined : wholeNumber(after),
      rollout: context.req.query('rollout'),
    };
    const ended = AbortSignal.any([signal, context.req.raw.signal]);
    const stream = eventStream(timeline, filter, ended);
    if (stream === undefined) throw new ControllerError('controller/overloaded', 'too many listen to events already');
    return context.body(stream, 200, { 'content-type': 'text/event-stream' });
  });
  return app;
}

/** admin: everything; read: every GET; provision: makes devices and nothing else. */
function authorize(context: Context, tokens: Tokens): void {
  const [scheme, token = ''] = (context.req.header('authorization') ?? '').split(' ');
  const role = scheme?.toLowerCase() === 'bearer' ? tokens.role(token) : undefined;
  if (role === undefined)
    throw new ControllerError('controller/unauthorized', 'a bearer token of this controller is needed', {
      hint: "send the token from admin.token in the controller's data folder",
    });
  if (!isAllowed(role, context.req.method, context.req.path))
    throw new ControllerError('controller/forbidden', `a token with role ${role} may not do this`, {
      hint: 'use an admin token',
    });
}

function isAllowed(role: Role, method: string, path: string): boolean {
  if (role === 'admin') return true;
  if (role === 'read') return method === 'GET';
  return method === 'POST' && path === '/v1/devices';
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new ControllerError('controller/request', 'after: is not the id of an event', { where: 'after' });
  return value;
}
