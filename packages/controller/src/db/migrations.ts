import { type Kysely, type Migration, type MigrationProvider, sql } from 'kysely';

/** Applied in the order of their names; one that was ever released is never edited. */
const migrations: { readonly [name: string]: Migration } = {
  '0001-first': {
    async up(db: Kysely<unknown>) {
      for (const statement of first.split(';')) if (statement.trim() !== '') await sql.raw(statement).execute(db);
    },
  },
  '0002-text-latency': {
    async up(db: Kysely<unknown>) {
      await sql.raw('alter table telemetry add column time_to_first_token_us bigint').execute(db);
      await sql.raw('alter table telemetry add column tokens_per_s double precision').execute(db);
    },
  },
  '0003-pause': {
    async up(db: Kysely<unknown>) {
      await sql.raw('alter table rollouts add column paused_at bigint').execute(db);
    },
  },
  '0004-removed-devices': {
    async up(db: Kysely<unknown>) {
      await sql.raw('alter table devices add column removed_at bigint').execute(db);
    },
  },
};

export const migrationProvider: MigrationProvider = { getMigrations: async () => ({ ...migrations }) };

const first = `
create table devices (
  id text primary key, fleet text not null, board text not null, name text not null, tags text not null,
  secret_hash text not null, online boolean not null, session bigint not null, birth text,
  created_at bigint not null, seen_at bigint);
create table tokens (hash text primary key, role text not null, label text not null, created_at bigint not null);
create table packs (
  digest text primary key, name text not null, task text not null, bytes bigint not null,
  manifest_bytes bigint not null, signed_by text, created_at bigint not null);
create table pack_blobs (
  pack text not null references packs on delete cascade, digest text not null, bytes bigint not null,
  primary key (pack, digest));
create table releases (
  name text not null, version text not null, digest text not null references packs, created_at bigint not null,
  primary key (name, version));
create table desired (
  device text not null references devices, name text not null, sequence bigint not null, version text, digest text,
  payload bytea not null, published boolean not null, primary key (device, name));
create index desired_outbox on desired (device) where not published;
create table rollouts (
  id text primary key, name text not null, version text not null, digest text not null, selection text not null,
  canary integer not null, phase text not null, health_window_ms bigint not null, state_deadline_ms bigint not null,
  created_at bigint not null, ended_at bigint);
create unique index one_rollout_per_name on rollouts (name) where phase in ('canary', 'rest');
create table rollout_devices (
  rollout text not null references rollouts on delete cascade, device text not null references devices,
  position integer not null, status text not null, why text, entry text not null, primary key (rollout, device));
create table reports (
  device text not null references devices, name text not null, session bigint not null, counter bigint not null,
  state text not null, sequence bigint not null, release_digest text not null, loaded_digest text not null,
  reason text, detail text not null, waiting text, bytes_done bigint not null, bytes_total bigint not null,
  received_at bigint not null, primary key (device, name));
create table telemetry (
  device text not null references devices, name text not null, digest text not null, session bigint not null,
  counter bigint not null, histogram bytea not null, throughput_per_s double precision not null,
  peak_rss_bytes bigint not null, pss_bytes bigint not null, weights_bytes bigint not null,
  window_ms bigint not null, failures bigint not null, updated_at bigint not null,
  primary key (device, name, digest));
create table events (
  id bigserial primary key, at bigint not null, kind text not null, device text, rollout text, data text not null);
create index events_by_rollout on events (rollout, id)
`;
