import { create } from "@bufbuild/protobuf";

import { Code, ConnectError } from "@connectrpc/connect";

import { conflict } from "../../common/errors.ts";
import { readOrEmpty } from "../../common/read-or-empty.ts";
import {
  type ContainerRecord,
  type NetworkRecord,
  NetworkRecordSchema,
  Phase,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkChange, NetworkFabric } from "../driver/networks.ts";
import { nothingFound } from "../driver/ready-made-roles.ts";
import { bridgeNameOf, bridgeOptionsOf } from "../model/bridge-options.ts";
import { fromHostError, type HostClient, orHostError } from "./host-client.ts";
import { interfaceOf } from "./interfaces.ts";
import { ownNames, resolvConf } from "./name-files.ts";

/** The bridge's name as recorded, or in the options, or like Docker's: interface names have at most 15 characters. */
function bridgeName({ network, driverReference }: NetworkRecord): string {
  return driverReference || bridgeNameOf(network?.options ?? {}) || `br-${(network?.id ?? "").slice(0, 12)}`;
}

/** One bridge per Docker network; `host` and `none` need none. */
export function localNetworks(host: HostClient["client"]): NetworkFabric {
  return {
    bridgeSettings: "apply",
    endpointAddresses: "real",
    renamed: () => undefined, // Only agents know the names.
    found: nothingFound, // The state is on the machine that has the networks.
    async ensure(record) {
      const network = record.network;
      const pool = network?.pools[0];
      if (network === undefined || network.driver !== "bridge" || pool === undefined) {
        return "";
      }
      const bridge = bridgeName(record);
      const [base = "", prefix = ""] = pool.subnet.split("/");
      const options = bridgeOptionsOf(network.options, network.internal);
      try {
        await host.ensureNetwork({
          networkId: network.id,
          bridge,
          gateway: `${pool.gateway || base}/${prefix}`,
          internal: network.internal,
          isolate: true,
          alone: record.phase === Phase.CREATING && !pool.configured,
          given: options.name !== "",
          mtu: options.mtu,
          unaddressed: !options.addressed,
          apart: !options.interconnected,
          unmasked: !options.masquerades,
          source: options.source,
        });
      } catch (error) {
        throw isTaken(error) ? conflict(error.rawMessage, error) : fromHostError(error);
      }
      return bridge;
    },
    async remove(record) {
      const request = { networkId: record.network?.id ?? "", bridge: bridgeName(record) };
      await orHostError(host.removeNetwork(request));
    },
    async connect(change) {
      const { after, network, endpoint, defaultGateway } = change;
      await orHostError(
        host.connectContainer({
          containerId: after.id,
          interface: interfaceOf(endpoint, network),
          defaultGateway,
          names: { ...resolverChange(change), addHost: `${endpoint.ipAddress}\t${ownNames(after)}` },
        }),
      );
    },
    async disconnect({ before, network, endpoint, defaultGateway }) {
      await orHostError(
        host.disconnectContainer({
          containerId: before.id,
          networkId: endpoint.networkId,
          bridge: network.driverReference,
          defaultGateway,
          names: { removeHost: endpoint.ipAddress },
        }),
      );
    },
    async usedRoutes() {
      return (await orHostError(host.inspectMachine({}))).routes;
    },
  };
}

function isTaken(error: unknown): error is ConnectError {
  return error instanceof ConnectError && error.code === Code.ResourceExhausted;
}

/** A container that was only on the default bridge uses the shim's resolver after joining a user-defined network. */
function resolverChange({ before, after }: NetworkChange): {
  resolvConfBefore: Uint8Array<ArrayBuffer>;
  resolvConf: Uint8Array<ArrayBuffer>;
} {
  const machine = readOrEmpty("/etc/resolv.conf");
  const content = (record: ContainerRecord) => {
    const networks = Object.keys(record.endpoints).map((name) => ({
      name,
      record: create(NetworkRecordSchema),
    }));
    return new TextEncoder().encode(resolvConf(record, { kind: "networks", networks }, machine));
  };
  return { resolvConfBefore: content(before), resolvConf: content(after) };
}
