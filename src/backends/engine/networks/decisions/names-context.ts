import type { Reach } from "../../../model/endpoints.ts";
import type { State } from "../../../state/state.ts";

/** The engine's parts that decisions on names and links need. */
export interface NamesContext {
  readonly state: State;
  readonly driver: Reach;
}
