/** Finds addresses that two containers hold, or that are not of their network. */
import { BlockList, isIPv4 } from "node:net";

import { ContainerStatus } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord, NetworkRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** A wrong address, and what to write in the record's place where its container does not run. */
export interface WrongAddress {
  /** Key of the container's record, and the damage in words for users. */
  readonly finding: { readonly what: string; readonly fault: string };
  /** Without the address, which the next start allocates anew; undefined: the container runs with it. */
  readonly mended: ContainerRecord | undefined;
}

const withProcess = [ContainerStatus.RUNNING, ContainerStatus.PAUSED];

/** Finds wrong addresses: of two containers with one address the one that runs keeps it, else the older one. */
export function wrongAddresses(
  containers: readonly ContainerRecord[],
  networks: readonly NetworkRecord[],
): readonly WrongAddress[] {
  const pools = new Map(networks.map(({ network }) => [network?.id ?? "", network?.pools ?? []]));
  const held = new Map<string, ContainerRecord>();
  const found: WrongAddress[] = [];
  for (const record of containers.toSorted(byClaim)) {
    const wrong = new Map<string, string>();
    for (const [name, { networkId, ipAddress }] of Object.entries(record.endpoints)) {
      if (ipAddress === "") {
        continue;
      }
      const place = `${networkId} ${ipAddress}`;
      const holder = held.get(place);
      const subnets = pools.get(networkId)?.map(({ subnet }) => subnet) ?? [];
      if (holder !== undefined) {
        wrong.set(name, `has the address ${ipAddress} in network ${name}, as container!${holder.id} has`);
      } else if (subnets.length > 0 && !subnets.some((subnet) => includes(subnet, ipAddress))) {
        wrong.set(name, `has the address ${ipAddress}, which is not of network ${name}`);
      } else {
        held.set(place, record);
      }
    }
    if (wrong.size > 0) {
      found.push({
        finding: { what: `container!${record.id}`, fault: [...wrong.values()].join(", and ") },
        mended: hasProcess(record) ? undefined : withoutAddresses(record, new Set(wrong.keys())),
      });
    }
  }
  return found;
}

function hasProcess({ state }: ContainerRecord): boolean {
  return state !== undefined && withProcess.includes(state.status);
}

function byClaim(one: ContainerRecord, other: ContainerRecord): number {
  const seconds = ({ created }: ContainerRecord): number => Number(created?.seconds ?? 0n);
  return Number(hasProcess(other)) - Number(hasProcess(one)) || seconds(one) - seconds(other);
}

function withoutAddresses(record: ContainerRecord, names: ReadonlySet<string>): ContainerRecord {
  const endpoints = Object.entries(record.endpoints).map(([name, endpoint]) => [
    name,
    names.has(name) ? { ...endpoint, ipAddress: "", ipPrefixLen: 0 } : endpoint,
  ]);
  return { ...record, endpoints: Object.fromEntries(endpoints) as ContainerRecord["endpoints"] };
}

/** Whether a subnet, as `172.18.0.0/16`, has an address. */
function includes(subnet: string, address: string): boolean {
  const [base = "", bits] = subnet.split("/");
  if (!(isIPv4(base) && isIPv4(address))) {
    return true; // Addresses of IPv6 are not looked at.
  }
  const list = new BlockList();
  list.addSubnet(base, Number(bits), "ipv4");
  return list.check(address);
}
