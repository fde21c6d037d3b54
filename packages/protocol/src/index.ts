export type { Codec } from './codec.ts';
export {
  type DesiredSigner,
  desiredSigningBytes,
  type Sign,
  signDesired,
  signDesiredAnew,
  type Verify,
  verifyDesired,
} from './desired.ts';
export { ProtocolError, type ProtocolErrorCode } from './errors.ts';
export {
  Answer,
  type Birth,
  Call,
  Chunk,
  CHUNK_BYTES,
  Desired,
  DesiredRelease,
  FetchRequest,
  MAX_SUCCESSIONS,
  Presence,
  PROTOCOL,
  Reported,
  Telemetry,
} from './messages.ts';
export {
  describeFailure,
  describeState,
  describeWaiting,
  FAILURE_REASONS,
  type FailureReason,
  isFinal,
  type State,
  STATES,
  WAITING_REASONS,
  type WaitingReason,
} from './states.ts';
export {
  checkName,
  controllerSubscriptions,
  type DeviceAddress,
  deviceSubscriptions,
  isFromDevice,
  isName,
  type NamedKind,
  parseTopic,
  type PlainKind,
  type Topic,
  topicFor,
  type TopicKind,
  topicRoot,
} from './topics.ts';
