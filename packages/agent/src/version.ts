/** Told to the controller at every connect. */
export const AGENT_VERSION = '0.1.0';
