/** Certificates that an agent was given for the agents of other containers. */
import type { Clock } from "../../../../common/clock.ts";
import type { IssuedCertificate } from "../../../driver/agents.ts";

/** Issues a certificate for the agent of another container. */
type Issue = (containerId: string) => Promise<IssuedCertificate>;

/**
 * One agent's certificates, by container. Kept with its link, so that a change among many containers costs only the
 * certificates of those that came, whatever other agents ask for.
 */
export class GivenCertificates {
  #given = new Map<string, IssuedCertificate>();
  #issue: Issue | undefined;

  /**
   * The certificates for these containers, one issued after the other where there is none; those for all others are
   * forgotten. Calls are sequential.
   *
   * @param nowMs milliseconds since the epoch
   * @throws the signal's reason; the errors of `issue`
   */
  async complete(
    containerIds: Iterable<string>,
    nowMs: number,
    issue: Issue,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, IssuedCertificate>> {
    const given = new Map<string, IssuedCertificate>();
    for (const id of containerIds) {
      const known = this.#given.get(id);
      const isGood = known !== undefined && nowMs < known.goodUntilMs;
      signal.throwIfAborted();
      given.set(id, isGood ? known : await issue(id));
      this.#issue = isGood ? this.#issue : issue;
    }
    this.#given = given;
    return given;
  }

  /**
   * Renews those that are due, one after the other, beside calls of {@link complete}, which do not wait for it. One that
   * cannot be renewed stays as it is, and is issued anew by {@link complete} at its end.
   */
  async renew(clock: Clock, signal: AbortSignal): Promise<void> {
    for (const [id, { renewedFromMs }] of this.#given) {
      const issue = this.#issue;
      if (issue !== undefined && renewedFromMs <= clock.nowMs() && !signal.aborted) {
        const renewed = await issue(id).catch(() => undefined);
        if (renewed !== undefined && this.#given.has(id)) {
          this.#given.set(id, renewed);
        }
      }
    }
  }
}
