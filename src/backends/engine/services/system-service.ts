/** SystemService on the wire. */
import type { ServiceImpl } from "@connectrpc/connect";

import { notImplemented } from "../../../common/errors.ts";
import { version } from "../../../common/version.ts";
import type { RegistryAuth } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { SystemService } from "../../../gen/sockerless/backend/v1/system_pb.ts";
import type { EngineContext } from "../context.ts";
import { diskUsageOf } from "./disk-usage.ts";
import { type BackendFacts, infoOf } from "./info.ts";
import { partsOf } from "./readiness.ts";

/** Facts and functions that the services need beside the engine. */
export interface ServiceOptions extends BackendFacts {
  /** Tells metrics in Prometheus' text format; undefined: nothing is measured. */
  readonly metrics?: (() => Promise<string>) | undefined;
  /** Checks credentials against their registry; undefined: this backend has no registry client. */
  readonly authenticate?: (
    auth: RegistryAuth | undefined,
    signal: AbortSignal,
  ) => Promise<{ readonly status: string; readonly identityToken: string }>;
}

/** The service of an engine. */
export function systemService(
  context: EngineContext,
  options: ServiceOptions,
): ServiceImpl<typeof SystemService> {
  const { driver } = context;
  return {
    getCapabilities: () => ({ backend: driver.name, version, capabilities: driver.capabilities }),
    getDiskUsage: ({ types }) => diskUsageOf(context, types),
    getMetrics: async () => ({ text: (await options.metrics?.()) ?? "" }),
    getReadiness: async () => ({ parts: [...(await partsOf(context))] }),
    getInfo: () => infoOf(context, options),
    authenticate: async ({ auth }, call) => {
      if (options.authenticate === undefined) {
        throw notImplemented(`the ${driver.name} backend does not support registry logins`);
      }
      return await options.authenticate(auth, call.signal);
    },
  };
}
