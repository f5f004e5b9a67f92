/** The account's quota of vCPUs on Fargate: a larger container never starts. */
import { GetServiceQuotaCommand, type ServiceQuotasClient } from "@aws-sdk/client-service-quotas";

import type { Clock } from "../../common/clock.ts";
import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { AwsService } from "./aws/clients.ts";

/** Settings and dependencies of {@link VcpuQuota}. */
export interface VcpuQuotaOptions {
  readonly serviceQuotas: AwsService<ServiceQuotasClient>;
  /** Whether tasks run on Spot, which has its own quota. */
  readonly spot: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Codes in Service Quotas of Fargate's quotas for concurrent vCPUs. */
export const vcpuQuotaCodes = { onDemand: "L-3032A538", spot: "L-36FBB829" } as const;
const cpuUnits = 1024;
/** Maximum age of a value that a container exceeds: a raised quota is noticed after this time. */
const freshMs = 10_000;
/** Pause after a failed or denied query, and maximum age for metrics. */
const unreadableMs = 10 * 60_000;
/** Time limit of the query for a container's creation. */
const patienceMs = 10_000;

/** The quota, queried on demand and cached while containers fit. */
export class VcpuQuota {
  readonly #options: VcpuQuotaOptions;
  #known: number | undefined;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;

  constructor(options: VcpuQuotaOptions) {
    this.#options = options;
  }

  /** The code in Service Quotas. */
  get code(): string {
    return this.#options.spot ? vcpuQuotaCodes.spot : vcpuQuotaCodes.onDemand;
  }

  /** vCPUs according to the last query; undefined if unknown. */
  get vcpus(): number | undefined {
    return this.#known;
  }

  /**
   * Whether the quota has room for a task if no other runs; undefined if unknown.
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

  /** The quota for metrics, at most ten minutes old; undefined if unknown. Never fails. */
  async refreshed(signal: AbortSignal): Promise<number | undefined> {
    if (this.#options.clock.nowMs() - this.#readAtMs > unreadableMs) {
      await this.read(signal).catch(() => {});
    }
    return this.#known;
  }

  /** Queries the quota. @throws AwsError: it is unknown; the signal's reason */
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
