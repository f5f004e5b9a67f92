/** Requests to the API server for the start of a container: the pod to be made. */
import type { V1Pod } from "@kubernetes/client-node";

import { invalid } from "../../../common/errors.ts";
import { withoutGeneration } from "../../cloud/agents/agent-environment.ts";
import type { TaskRequests } from "../../cloud/contract/cloud-tasks.ts";
import { withMissingAgent } from "../../cloud/images/agent-image.ts";
import { nextPodName } from "../names.ts";
import type { KubernetesVolumes } from "../volumes.ts";
import { type PodSettings, podOf, restrictedUser, unmountedVolumes } from "./pod-spec.ts";
import { type LargestRequests, refuseTooLarge } from "./sizes.ts";

/** Parts of {@link podRequests}. */
export interface PodRequestsOptions {
  readonly settings: PodSettings;
  readonly largest: LargestRequests;
  readonly volumes: Pick<KubernetesVolumes, "refuseLost">;
}

/** Requests as JSON of {@link V1Pod}; nothing in it is secret but the token of an agent that calls, which proves nothing. */
export function podRequests({ settings, largest, volumes }: PodRequestsOptions): TaskRequests {
  return {
    async make(spec, step) {
      const pod = podOf(spec, settings);
      refuseTooManyVolumes(pod);
      const request = withinBounds(JSON.stringify(pod));
      await volumes.refuseLost(spec, step);
      return request;
    },
    async renew(request, spec) {
      return JSON.stringify(renamed(podOf(spec, settings), nameIn(request)));
    },
    another(request, last) {
      return last === ""
        ? request
        : JSON.stringify(renamed(parseRequest(request), nextPodName(nameIn(request), last)));
    },
    otherCapacity: () => undefined,
    isAlike: (one, other) => withoutStart(one) === withoutStart(other),
    sizeOf: (request) => JSON.stringify(parseRequest(request).spec?.containers[0]?.resources ?? {}),
    async refuseUnfit({ config, hostConfig }) {
      refuseTooLarge(hostConfig, largest);
      if (settings.restricted) {
        restrictedUser(config?.user ?? "");
      }
    },
    fitsQuota: () => Promise.resolve(undefined),
    unmountedVolumes,
    explainFailure: (error) => withMissingAgent(error, settings.agentImage, "kubernetes"),
  };
}

/** The most volumes of a pod: while its node sets up thousands, other pods there begin half a minute later. */
const maxVolumes = 256;

/** @throws invalid */
function refuseTooManyVolumes({ spec }: V1Pod): void {
  if ((spec?.volumes?.length ?? 0) > maxVolumes) {
    throw invalid(
      `too many mounts: a pod may have ${maxVolumes} volumes, and each tmpfs, claim and image is one`,
    );
  }
}

/** The most bytes of a pod, each change of which is read: a KiB for each of its volumes. */
const mostBytes = maxVolumes * 1024;

/** @throws invalid */
function withinBounds(request: string): string {
  const bytes = Buffer.byteLength(request);
  if (bytes > mostBytes) {
    throw invalid(`too many mounts and settings: their pod has ${bytes} bytes, and ${mostBytes} are taken`);
  }
  return request;
}

/** Reads a request. */
export function parseRequest(request: string): V1Pod {
  return JSON.parse(request) as V1Pod;
}

/** The name of the pod that a request asks for. */
export function nameIn(request: string): string {
  return parseRequest(request).metadata?.name ?? "";
}

function renamed(pod: V1Pod, name: string): V1Pod {
  return { ...pod, metadata: { ...pod.metadata, name } };
}

/** A pod without the start that it is for. */
function withoutStart(request: string): string {
  const { metadata, spec } = parseRequest(request);
  return withoutGeneration([metadata?.labels, spec]);
}
