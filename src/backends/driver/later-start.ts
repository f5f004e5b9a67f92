import { SockerlessError } from "../../common/errors.ts";

/**
 * A launch that finds the container running by a later start, as after the restore of a backup. That run is to be left alone;
 * a launch with its number takes it up.
 */
export class LaterStart extends SockerlessError {
  /** The number of the later start. */
  readonly generation: bigint;

  /** @param place the platform's name for the place in which it runs */
  constructor(generation: bigint, place: string) {
    super(
      "unavailable",
      `start ${generation} of the container, which the state does not know, runs in ${place}`,
    );
    this.generation = generation;
  }
}
