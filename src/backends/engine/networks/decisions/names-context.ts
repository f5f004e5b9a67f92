import type { Reach } from "../../../model/endpoints.ts";
import type { State } from "../../../state/state.ts";

/** Dependencies of decisions about names and links. */
export interface NamesContext {
  readonly state: State;
  readonly driver: Reach;
}
