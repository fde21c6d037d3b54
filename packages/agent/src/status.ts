import { readFile } from 'node:fs/promises';
import { AgentError } from './errors.ts';
import { isLocked } from './lock.ts';
import { type Status, statusPath } from './reporter.ts';

export interface AgentStatus extends Status {
  /** An agent runs on this folder now; else the rest is from when one last did. */
  readonly running: boolean;
}

/** What the agent on a data folder reported last. @throws {AgentError} `agent/storage` if none ever ran there */
export async function agentStatus(dataDir: string): Promise<AgentStatus> {
  const path = statusPath(dataDir);
  try {
    const status = JSON.parse(await readFile(path, 'utf8')) as Status;
    const running = await isLocked(dataDir);
    return { ...status, running, online: running && status.online };
  } catch (cause) {
    throw new AgentError('agent/storage', `no agent ever ran on ${dataDir}`, {
      where: path,
      hint: 'start one: flotilla agent start --data DIR --identity DIR',
      cause,
    });
  }
}
