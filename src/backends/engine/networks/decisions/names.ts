/** Names and addresses for a container's resolver. Pure. */
import { create } from "@bufbuild/protobuf";

import { ownValue } from "../../../../common/own-value.ts";
import {
  type NamedNetwork,
  NamedNetworkSchema,
  NamedPeerSchema,
  type NamesRequest,
  NamesRequestSchema,
} from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { LinkedHost } from "../../../driver/workload-spec.ts";
import type { State } from "../../../state/state.ts";
import { linkedHosts } from "../../containers/decisions/links/links.ts";
import { hostConfigOf } from "../../../model/records.ts";
import { defaultGatewayOf } from "../../../model/default-gateway.ts";
import { withLinks } from "./endpoint-links.ts";
import { type Endpoints, peerAddressOf } from "../../../model/endpoints.ts";
import type { NamesContext } from "./names-context.ts";
import { builtinNetworks } from "./networks.ts";
import { parseExtraHost } from "../../../model/extra-hosts.ts";

/** The user-defined networks of endpoints, by name: only there do names resolve. */
export function namedNetworks(endpoints: Endpoints): readonly string[] {
  return Object.keys(endpoints).filter((name) => !builtinNetworks.has(name));
}

/**
 * All names that a container can resolve: its own, those of starting or running peers on its user-defined networks,
 * those of linked containers on the default bridge, and {@link peerHosts}.
 */
export function namesFor(context: NamesContext, record: ContainerRecord): NamesRequest {
  return create(NamesRequestSchema, {
    networks: namedNetworks(record.endpoints).map((name) => namedNetwork(context, name, record)),
    hosts: [...linkedHosts(context, record), ...peerHosts(context, record)].map(({ address, names }) => ({
      address,
      names: [...names],
    })),
    forward: defaultGatewayOf(record.endpoints) !== undefined,
    upstreams: hostConfigOf(record).dns,
  });
}

/**
 * The extra hosts of a container that name a peer by the address that inspect shows, as clients copy it, with the address
 * at which the peer is reached. Empty where the two are the same.
 */
export function peerHosts({ state, driver }: NamesContext, record: ContainerRecord): LinkedHost[] {
  const { extraHosts } = hostConfigOf(record);
  if (extraHosts.length === 0) {
    return [];
  }
  /** Reached addresses, by the address that inspect shows. */
  const reachedAt = new Map<string, string>();
  for (const name of Object.keys(record.endpoints)) {
    for (const { endpoints } of state.containers.addressedOn(name)) {
      const endpoint = ownValue(endpoints, name);
      const shown = endpoint?.ipAddress ?? "";
      const reached = peerAddressOf(endpoint, driver);
      if (reached !== "" && reached !== shown && !reachedAt.has(shown)) {
        reachedAt.set(shown, reached);
      }
    }
  }
  return extraHosts.flatMap((entry) => {
    const { name: alias, address: shownAddress } = parseExtraHost(entry);
    const address = reachedAt.get(shownAddress);
    return address === undefined ? [] : [{ address, names: [alias], shownAddress }];
  });
}

/** The starting or running containers on any of the networks. */
export function peersOn(state: State, networks: readonly string[]): readonly ContainerRecord[] {
  return [...new Set(networks.flatMap((name) => state.containers.addressedOn(name)))];
}

function namedNetwork(
  { state, driver }: NamesContext,
  name: string,
  { id: asking, endpoints: own }: ContainerRecord,
): NamedNetwork {
  const peers = peersOn(state, [name]).flatMap(({ id, endpoints }) => {
    const endpoint = ownValue(endpoints, name);
    const address = peerAddressOf(endpoint, driver);
    const itself = id === asking;
    return address === "" ? [] : [{ names: endpoint?.dnsNames ?? [], addresses: [address], itself }];
  });
  const links = ownValue(own, name)?.config?.links ?? [];
  return create(NamedNetworkSchema, {
    name,
    peers: withLinks(peers, links).map(({ names, addresses, itself }) =>
      create(NamedPeerSchema, {
        names: [...names],
        addresses: [...addresses],
        itself: itself === true && driver.traffic.kind === "relayed",
      }),
    ),
  });
}
