/** RPC implementation of SystemService. */
import type { ServiceImpl } from "@connectrpc/connect";

import { notImplemented } from "../../../common/errors.ts";
import { version } from "../../../common/version.ts";
import type { RegistryAuth } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { SystemService } from "../../../gen/sockerless/backend/v1/system_pb.ts";
import type { EngineContext } from "../context.ts";
import { diskUsageOf } from "./disk-usage.ts";
import { type BackendFacts, infoOf } from "./info.ts";
import { partsOf } from "./readiness.ts";

/** Dependencies of the services besides the engine. */
export interface ServiceOptions extends BackendFacts {
  /** Metrics in Prometheus' text format; undefined if nothing is measured. */
  readonly metrics?: (() => Promise<string>) | undefined;
  /** Verifies credentials at their registry. */
  readonly authenticate: (
    auth: RegistryAuth | undefined,
    signal: AbortSignal,
  ) => Promise<{ readonly status: string; readonly identityToken: string }>;
}

/** Each backend can do all that is asked about. */
const capabilities = {
  ...{ exec: true, attach: true, logs: true, logsFollow: true, volumes: true, networks: true },
  ...{ healthChecks: true, imagePull: true, imageLoad: true, agentRequired: true },
} as const;

/** Implements the service for an engine. */
export function systemService(
  context: EngineContext,
  options: ServiceOptions,
): ServiceImpl<typeof SystemService> {
  const { driver } = context;
  const orRefused = <T>(told: T | undefined): T => {
    if (told === undefined) {
      throw notImplemented(`the ${driver.name} backend prepares no tasks`);
    }
    return told;
  };
  return {
    getCapabilities: () => ({ backend: driver.name, version, capabilities }),
    getDiskUsage: ({ types }, { signal }) => diskUsageOf(context, types, signal),
    getMetrics: async () => ({ text: (await options.metrics?.()) ?? "" }),
    getReadiness: async () => ({ parts: [...(await partsOf(context))] }),
    getPool: () => orRefused(driver.prepared.report()),
    drainPool: ({ restMs }) => ({ stopped: orRefused(driver.prepared.drain(Number(restMs))) }),
    getInfo: () => infoOf(context, options),
    authenticate: ({ auth }, { signal }) => options.authenticate(auth, signal),
  };
}
