import type { KubernetesConfig } from "../../common/config/load.ts";
import type { HeldSockets } from "../../common/held-sockets.ts";
import type { RunningService } from "../../common/running-service.ts";
import { startCloudBackend } from "../cloud/main.ts";
import { kubernetesPlatform } from "./platform.ts";

/** How often tasks are looked at: that makes no call, since a watch tells of all pods. */
const lookIntervalMs = 250;

/** Starts the Kubernetes backend: see {@link startCloudBackend}. */
export function startBackend(
  config: KubernetesConfig,
  signal: AbortSignal,
  sockets?: HeldSockets,
): Promise<RunningService> {
  return startCloudBackend(
    {
      config,
      section: { ...config.kubernetes, pollInterval: lookIntervalMs },
      platform: (surroundings) => kubernetesPlatform(config, surroundings),
    },
    signal,
    sockets,
  );
}
