/** Pods that the doctor starts. */
import { randomBytes } from "node:crypto";

import type { V1Pod } from "@kubernetes/client-node";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { type KubernetesClient, withBody } from "../api/client.ts";
import { isMissing } from "../api/errors.ts";
import { type PodSettings, samplePod } from "../pods/pod-spec.ts";

/** Longest wait: a node that has to be made takes longer than any doctor waits. */
const longestMs = 90_000;
const pollMs = 500;
/** Kubernetes ends a pod whose doctor was killed. */
const mostSeconds = 300;

/** The cluster, and settings of the pods. */
export interface DoctorSurroundings {
  readonly client: KubernetesClient;
  readonly settings: PodSettings;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Parts of a pod that differ from those of containers'. */
export interface DoctorPodParts {
  readonly labels?: Readonly<Record<string, string>>;
  /** Arguments of the agent, in place of `init`. */
  readonly args?: readonly string[];
}

/** A pod as containers get it, whose only process is the agent; it is deleted with this. */
export class DoctorPod implements AsyncDisposable {
  readonly #around: DoctorSurroundings;
  readonly #name: string;
  readonly #begunMs: number;
  /** As it was seen last. */
  last: V1Pod;

  private constructor(around: DoctorSurroundings, name: string, last: V1Pod) {
    this.#around = around;
    this.#begunMs = around.clock.nowMs();
    this.#name = name;
    this.last = last;
  }

  /** @throws KubernetesError; the signal's reason */
  static async make(
    around: DoctorSurroundings,
    { labels = {}, args }: DoctorPodParts,
    signal: AbortSignal,
  ): Promise<DoctorPod> {
    const { client, settings } = around;
    const { namespace } = client;
    const name = `sockerless-doctor-${randomBytes(4).toString("hex")}`;
    // The pin is nobody's: this agent serves no backend.
    const { metadata, spec, ...sample } = samplePod({ ...settings, authorityPin: randomBytes(32) });
    const { annotations } = metadata ?? {};
    const body: V1Pod = {
      ...sample,
      metadata: {
        ...{ namespace, name, labels: { "sockerless/doctor": "true", ...labels } },
        ...(annotations && { annotations }),
      },
      spec: {
        ...spec,
        containers: (spec?.containers ?? []).map((each) => ({ ...each, ...(args && { args: [...args] }) })),
        activeDeadlineSeconds: mostSeconds,
      },
    };
    await client.call(
      "create pods",
      (options) => client.core.createNamespacedPod({ namespace, body }, withBody(options, body)),
      signal,
    );
    return new DoctorPod(around, name, body);
  }

  /** Seconds since it was made. */
  get seconds(): number {
    return Math.round((this.#around.clock.nowMs() - this.#begunMs) / 1000);
  }

  /**
   * Looks at it until the judge has a verdict.
   *
   * @returns undefined: there is none in time
   * @throws KubernetesError, such as one that {@link isMissing}; the signal's reason
   */
  async until<T>(
    judge: (pod: V1Pod, seconds: number) => T | undefined,
    signal: AbortSignal,
  ): Promise<T | undefined> {
    const { client, settings, clock } = this.#around;
    const { namespace } = client;
    const limitMs = Math.min(settings.startTimeoutMs, longestMs);
    while (clock.nowMs() - this.#begunMs < limitMs) {
      await clock.sleep(pollMs, signal);
      this.last = await client.call(
        "get pods",
        (options) => client.core.readNamespacedPod({ namespace, name: this.#name }, options),
        signal,
      );
      const verdict = judge(this.last, this.seconds);
      if (verdict !== undefined) {
        return verdict;
      }
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { client, logger } = this.#around;
    const { namespace } = client;
    const name = this.#name;
    try {
      await client.call("delete pods", (options) =>
        client.core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 }, options),
      );
    } catch (error) {
      if (!isMissing(error)) {
        logger.warn({ err: error }, `cannot delete the pod ${name}: ${messageOf(error)}`);
      }
    }
  }
}
