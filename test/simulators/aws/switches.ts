/** Beliefs about the cloud that no service model backs. Each is tested in both positions; README.md lists them. */

/** The beliefs; all of them can be changed at any time. */
export interface Switches {
  /** New tasks, and what was written, may be missing from reads for this many simulated milliseconds. */
  eventualConsistencyMs: number;
  /** A message about a request that was refused by a policy ends with AWS's "because no identity-based policy allows …". */
  deniedMessagesExplain: boolean;
}

/** What is believed. */
export function defaultSwitches(): Switches {
  return { eventualConsistencyMs: 0, deniedMessagesExplain: true };
}
