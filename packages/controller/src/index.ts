export { type BrokerLimits, defaultBrokerLimits } from './broker/limits.ts';
export { type ClientOptions, ControllerClient, type NewCall, type NewDevice, type NewRollout } from './client.ts';
export { type Clock, systemClock } from './clock.ts';
export { ControllerError, type ControllerErrorCode } from './errors.ts';
export { type Candidate, planRollout, type RolloutPlan } from './rollout/plan.ts';
export {
  type DeviceStatus,
  isActive,
  type ReleaseRef,
  type Rollout,
  type RolloutDevice,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutPhase,
  type RolloutReport,
  type RolloutStep,
  type Why,
} from './rollout/state.ts';
export { stepRollout } from './rollout/step.ts';
export { describeWhy } from './rollout/words.ts';
export { parseSelection, type Selectable, type Selection } from './selection.ts';
export type { Controller, ControllerOptions } from './options.ts';
export { startController } from './start.ts';
export type { LatencySummary } from './histogram.ts';
export type { TelemetryView } from './telemetry.ts';
export type { TimelineEvent, TimelineKind } from './timeline.ts';
export type {
  AnswerView,
  DeviceView,
  Identity,
  ModelView,
  PackView,
  ReleaseView,
  RolloutDeviceView,
  RolloutView,
} from './views.ts';
