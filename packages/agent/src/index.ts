export { AgentError, type AgentErrorCode } from './errors.ts';
export { type Identity, readIdentity } from './identity.ts';
export type { AgentEvent, Effect, EffectOf, EventOf, ReportBody, Step, TimerName } from './mind/event.ts';
export {
  type AgentState,
  initialState,
  type Installed,
  type ModelRecord,
  type ModelState,
  type Phase,
  type Piece,
  type SlotName,
  STEPS,
  type StepName,
} from './mind/state.ts';
export { step } from './mind/step.ts';
export type {
  AgentPorts,
  Clock,
  Disk,
  Engine,
  Generated,
  Link,
  LinkEvents,
  LoadedModel,
  Measured,
  Outgoing,
} from './ports.ts';
export { hasIdentity, provisionAgent, type ProvisionOptions } from './provision.ts';
export { Refusal } from './refusal.ts';
export type { Status } from './reporter.ts';
export { type Agent, type AgentOptions, startAgent } from './start-agent.ts';
export { type AgentStatus, agentStatus } from './status.ts';
