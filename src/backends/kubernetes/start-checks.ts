/** Checks of the cluster, made when the backend starts. */
import type { V1Pod } from "@kubernetes/client-node";

import type { KubernetesConfig } from "../../common/config/load.ts";
import { invalid } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { StartCheck } from "../cloud/contract/platform.ts";
import { type KubernetesClient, withBody } from "./api/client.ts";
import { isMissing, KubernetesError } from "./api/errors.ts";
import { type PodSettings, samplePod } from "./pods/pod-spec.ts";

/** A right in the namespace. */
interface Right {
  readonly verb: string;
  readonly resource: string;
  readonly subresource?: string;
  /** API group; absent: the core's. */
  readonly group?: string;
}

/** Settings that decide which rights a backend needs. */
export interface NeededRights {
  /** Agents are dialled at the addresses of their pods. */
  readonly isDirect: boolean;
  /** Networks are policies. */
  readonly policies: boolean;
  /** Published ports are Services. */
  readonly services: boolean;
}

/** The least rights of a role: all that this backend does in its namespace. */
export function rightsFor({ isDirect, policies, services }: NeededRights): readonly Right[] {
  const rights = (resource: string, ...verbs: string[]): Right[] => verbs.map((verb) => ({ verb, resource }));
  const group = "networking.k8s.io";
  return [
    ...rights("pods", "create", "delete", "get", "list", "patch", "watch"),
    // A WebSocket is opened by GET, for which Kubernetes asks for `get` to 1.34, and for `create` as well from 1.35 on.
    ...(isDirect ? [] : ["create", "get"]).map((verb) => ({
      verb,
      resource: "pods",
      subresource: "portforward",
    })),
    ...rights("persistentvolumeclaims", "create", "delete", "get", "list"),
    ...rights("resourcequotas", "list"),
    ...(policies ? rights("networkpolicies", "create", "delete", "list", "update") : []).map((right) => ({
      ...right,
      group,
    })),
    ...(services ? rights("services", "create", "get", "patch") : []),
  ];
}

/** Tells the namespace from another of its name at the same URL: nothing fails without it. */
export const guardRight: Right = { verb: "get", resource: "namespaces" };
/** The lack of {@link guardRight}, in words. */
export const unguarded = "another namespace of that name at the same URL is not noticed";

/** A right's name: `create pods/portforward`. */
export function nameOfRight({ verb, resource, subresource }: Right): string {
  return [`${verb} ${resource}`, ...(subresource === undefined ? [] : [subresource])].join("/");
}

/** The checks of rights, all together. */
export const rightsCheck = "the rights in the namespace";

/** How agents are reached. @throws invalid: they are to call, and nothing says where */
export function agentModeOf(
  { agentMode, callbackUrl }: KubernetesConfig["kubernetes"],
  client: Pick<KubernetesClient, "isInCluster">,
): { readonly isDirect: boolean; readonly callbackUrl: string | undefined } {
  if (agentMode !== "callback") {
    const mode = agentMode ?? (client.isInCluster ? "direct" : "api-server");
    return { isDirect: mode === "direct", callbackUrl: undefined };
  }
  if (callbackUrl === undefined) {
    throw invalid(
      "configuration: kubernetes.agent_mode: callback needs kubernetes.callback_url: where pods reach this backend",
    );
  }
  return { isDirect: false, callbackUrl };
}

/** The checks of the namespace, of this backend's rights there, and of what is configured for pods. */
export function kubernetesChecks(
  client: KubernetesClient,
  pods: PodSettings,
  needs: NeededRights,
  logger: Logger,
): readonly StartCheck[] {
  const { namespace } = client;
  return [
    {
      what: "the namespace",
      async run(signal) {
        logger.info(`Kubernetes at ${client.server}, namespace ${namespace}`);
        try {
          await client.call(
            "list pods",
            (options) => client.core.listNamespacedPod({ namespace, limit: 1 }, options),
            signal,
          );
          return undefined;
        } catch (error) {
          if (isMissing(error)) {
            return `there is no namespace ${namespace}: no container will start`;
          }
          throw error;
        }
      },
    },
    {
      what: rightsCheck,
      async run(signal) {
        const missing: string[] = [];
        for (const right of rightsFor(needs)) {
          if (!(await client.may(right, signal))) {
            missing.push(nameOfRight(right));
          }
        }
        return missing.length === 0
          ? undefined
          : `this backend may not ${missing.join(", ")} in namespace ${namespace}: what needs it will fail`;
      },
    },
    {
      what: rightsCheck,
      run: async (signal) =>
        (await client.may(guardRight, signal))
          ? undefined
          : `this backend may not ${nameOfRight(guardRight)} in namespace ${namespace}: ${unguarded}`,
    },
    {
      what: "the settings of pods",
      async run(signal) {
        try {
          await admittedSample(client, pods, signal);
          return undefined;
        } catch (error) {
          const isAnswer = error instanceof KubernetesError && error.status !== 404 && !error.isUnauthorized;
          if (isAnswer && error.prospect === "room") {
            return undefined; // Quotas are asked last: all else is in order.
          }
          if (isAnswer && error.prospect === "lasts") {
            return `Kubernetes refuses the pods that these settings make: ${error.message}`;
          }
          throw error;
        }
      },
    },
  ];
}

/** A pod as Kubernetes would make it, with what admission adds, and makes none. @throws KubernetesError; the signal's reason */
export async function admittedSample(
  client: KubernetesClient,
  pods: PodSettings,
  signal: AbortSignal,
): Promise<V1Pod> {
  const { namespace } = client;
  const body = samplePod(pods);
  return await client.call(
    "create pods (a dry run)",
    (options) =>
      client.core.createNamespacedPod(
        { namespace, body, dryRun: "All", fieldValidation: "Strict" },
        withBody(options, body),
      ),
    signal,
  );
}
