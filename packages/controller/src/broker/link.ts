/** How the controller talks MQTT, whoever runs the broker. */
export interface Link {
  /** Where devices connect. */
  readonly url: string;
  /** From now on `receive` is called for every message of a device; retained ones first. */
  attach(receive: Receive): Promise<void>;
  /** Resolves when the broker has it and, embedded, when the device's socket has taken it. QoS 1. */
  publish(topic: string, payload: Uint8Array, options?: { readonly retain?: boolean | undefined }): Promise<void>;
  /** Ends the connection of a device that is none any more. A broker that somebody else runs must do so itself. */
  cut?(device: string): Promise<void>;
  /** What to do when the broker is there again: it may have lost what it retained. One that is inside is never away. */
  onReconnect?(act: () => void): void;
  close(): Promise<void>;
}

/** Called for every message of a device. Must not wait. */
export type Receive = (topic: string, payload: Uint8Array) => void;
