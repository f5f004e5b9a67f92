/** What supervisor and child tell each other over the IPC channel. */
import type { Config } from "../common/config/load.ts";

/** From the supervisor. */
export type SupervisorMessage =
  /** Begin to serve. The code is loaded before this comes, so that processes start side by side. */
  | { readonly type: "serve"; readonly config: Config }
  /** Close and exit. */
  | { readonly type: "stop" };

/** From the child. */
export type ChildMessage = {
  /** It serves. */
  readonly type: "ready";
  /** The addresses it listens on, where it told them. */
  readonly addresses?: readonly string[];
};
