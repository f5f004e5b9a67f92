/** Sieges of a relay, as a process of their own makes them. */

/** Ways in which strangers take what they can. */
export const strangerKinds = [
  "show keys and say nothing",
  "show fresh keys all the time",
  "show fresh keys with an earlier start's token all the time",
  "send messages in frames of one byte",
  "send thousands of requests at once",
  "send thousands of messages at once",
] as const;

export type StrangerKind = (typeof strangerKinds)[number];

/** Argument of the process, as JSON. It answers "there" once each has called. */
export interface Siege {
  readonly kind: StrangerKind;
  readonly url: string;
  /** The backend's instance, and a container: whoever is on its network knows both. */
  readonly instance: string;
  readonly containerId: string;
  /** An earlier start's. */
  readonly token: string;
  readonly count: number;
}
