/** The account's quota of Fargate's vCPUs: a container that is larger never starts. */
import { GetServiceQuotaCommand, type ServiceQuotasClient } from "@aws-sdk/client-service-quotas";

import type { Clock } from "../../common/clock.ts";
import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { AwsService } from "./aws/clients.ts";

/** Settings of {@link VcpuQuota}, and what it calls. */
export interface VcpuQuotaOptions {
  readonly serviceQuotas: AwsService<ServiceQuotasClient>;
  /** Whether tasks run on Spot, which has a quota of its own. */
  readonly spot: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Fargate's quotas of vCPUs that run at once, in Service Quotas. */
export const vcpuQuotaCodes = { onDemand: "L-3032A538", spot: "L-36FBB829" } as const;
const cpuUnits = 1024;
/** A quota that is raised is seen so soon. */
const freshMs = 10_000;
/** Service Quotas is asked again so late where it does not answer or may not be asked, and for metrics. */
const unreadableMs = 10 * 60_000;
/** A creation waits no longer for it. */
const patienceMs = 10_000;

/** The quota, read when it is needed and kept for as long as containers fit. */
export class VcpuQuota {
  readonly #options: VcpuQuotaOptions;
  #known: number | undefined;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;

  constructor(options: VcpuQuotaOptions) {
    this.#options = options;
  }

  /** The quota's code. */
  get code(): string {
    return this.#options.spot ? vcpuQuotaCodes.spot : vcpuQuotaCodes.onDemand;
  }

  /** vCPUs, as they were read last; undefined: they cannot be read. */
  get vcpus(): number | undefined {
    return this.#known;
  }

  /**
   * Whether the quota holds a task with nothing beside it; undefined: it cannot be read.
   *
   * @param cpu in AWS's units: 1,024 are one vCPU
   */
  async fits(cpu: number): Promise<boolean | undefined> {
    const { clock, logger } = this.#options;
    const isKnownToFit = this.#known !== undefined && cpu <= this.#known * cpuUnits;
    const ageMs = clock.nowMs() - this.#readAtMs;
    if (!isKnownToFit && ageMs > (this.#known === undefined ? unreadableMs : freshMs)) {
      await this.read(AbortSignal.timeout(patienceMs)).catch((error: unknown) =>
        logger.info({ err: error }, `the quota of vCPUs is not known: ${messageOf(error)}`),
      );
    }
    return this.#known === undefined ? undefined : cpu <= this.#known * cpuUnits;
  }

  /** The quota for metrics, of the last ten minutes; undefined: it cannot be read. Never fails. */
  async refreshed(signal: AbortSignal): Promise<number | undefined> {
    if (this.#options.clock.nowMs() - this.#readAtMs > unreadableMs) {
      await this.read(signal).catch(() => {});
    }
    return this.#known;
  }

  /** Reads it anew. @throws AwsError: it is not known; the signal's reason */
  async read(signal: AbortSignal): Promise<void> {
    this.#reading ??= this.#read(signal).finally(() => {
      this.#reading = undefined;
    });
    await this.#reading;
  }

  async #read(abortSignal: AbortSignal): Promise<void> {
    const { serviceQuotas, clock } = this.#options;
    try {
      const command = new GetServiceQuotaCommand({ ServiceCode: "fargate", QuotaCode: this.code });
      const { Quota } = await serviceQuotas.send(command, { abortSignal });
      this.#known = Quota?.Value;
    } catch (error) {
      this.#known = undefined;
      throw error;
    } finally {
      this.#readAtMs = clock.nowMs();
    }
  }
}
