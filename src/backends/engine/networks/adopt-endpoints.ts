/** Networks of a container that continued to run while the backend was away. */
import { create } from "@bufbuild/protobuf";

import { NetworkRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import type { LiveContainer } from "../containers/live/live.ts";
import { hasProcess } from "../../model/records.ts";
import { defaultGatewayOf } from "../../model/default-gateway.ts";
import { push } from "./name-pushes.ts";
import { namedNetworks } from "./decisions/names.ts";

/**
 * Reconciles an adopted container with its record, in the background: completes or undoes an interrupted connection or
 * disconnection, and sends missed names.
 */
export function adoptEndpoints(context: EngineContext, live: LiveContainer): void {
  const { networks } = context.driver;
  void context.background.run(`adopt the networks of container ${live.id}`, () =>
    live.lock.run(async () => {
      const record = context.state.containers.get(live.id);
      if (record === undefined || !hasProcess(record)) {
        return;
      }
      const defaultGateway = defaultGatewayOf(record.endpoints) ?? "";
      for (const endpoint of Object.values(record.endpoints)) {
        const network = context.state.networks.get(endpoint.networkId) ?? create(NetworkRecordSchema);
        if (endpoint.ipAddress !== "") {
          await networks.connect({ before: record, after: record, network, endpoint, defaultGateway });
        }
      }
      if (namedNetworks(record.endpoints).length > 0) {
        await push(context, live.id);
      }
    }),
  );
}
