/** Certificates that an agent was given for the agents of other containers. */
import type { IssuedCertificate } from "../../../driver/agents.ts";

/**
 * One agent's certificates, by container. Kept with its link, so that a change among many containers costs only the
 * certificates of those that came, whatever other agents ask for.
 */
export class GivenCertificates {
  #given: ReadonlyMap<string, IssuedCertificate> = new Map();

  /**
   * The certificates for these containers, one issued after the other where one is new or expires; those for all others
   * are forgotten. Calls are sequential.
   *
   * @param nowMs milliseconds since the epoch
   * @throws the signal's reason; the errors of `issue`
   */
  async renew(
    containerIds: Iterable<string>,
    nowMs: number,
    issue: (containerId: string) => Promise<IssuedCertificate>,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, IssuedCertificate>> {
    const given = new Map<string, IssuedCertificate>();
    for (const id of containerIds) {
      const known = this.#given.get(id);
      const isGood = known !== undefined && nowMs < known.goodUntilMs;
      signal.throwIfAborted();
      given.set(id, isGood ? known : await issue(id));
    }
    this.#given = given;
    return given;
  }
}
