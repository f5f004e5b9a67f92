/** Allocation of networks' addresses. */
import { forbidden, invalid, unavailable } from "../../../common/errors.ts";
import { getOrInsert } from "../../../common/get-or-insert.ts";
import type { IpamPool, Network } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import type { NetworkRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type Cidr, formatAddress, overlaps, parseAddress, parseCidr, sizeOf } from "./decisions/cidr.ts";

/** Addresses of a container on one network. */
export interface HeldAddress {
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string;
}

/**
 * The allocated addresses of all networks, in memory: at its start the engine reallocates those of running containers.
 * An address is freed only when its interface is gone, since the kernel answers for it until then.
 */
export class AddressBook {
  readonly #held = new Map<string, Set<number>>();
  /** By network: all addresses below are allocated or reserved. */
  readonly #full = new Map<string, number>();
  /** By network: promises for the release, or keeping, of ended runs' addresses. */
  readonly #releasing = new Map<string, Map<number, Promise<void>>>();

  /**
   * Allocates the requested address, or the lowest free one.
   *
   * @returns undefined if the network has no addresses (`host`, `none`)
   * @throws invalid: not of this network; forbidden: in use; unavailable: none is free
   */
  take(network: Network, wanted: string): HeldAddress | undefined {
    const [pool] = network.pools;
    const subnet = parseCidr(pool?.subnet ?? "");
    if (pool === undefined || subnet === undefined) {
      return undefined;
    }
    const answer = (address: number): HeldAddress => {
      this.#hold(network.id, address);
      const gateway = network.internal ? "" : pool.gateway; // An internal network has no default route.
      return { address: formatAddress(address), prefixLength: subnet.prefix, gateway };
    };
    if (wanted !== "") {
      const address = parseAddress(wanted);
      if (address === undefined || address < subnet.base || address >= subnet.base + sizeOf(subnet)) {
        throw invalid(`no configured subnet contains IP address ${wanted}`);
      }
      if (reservedOf(pool).has(address) || this.#held.get(network.id)?.has(address) === true) {
        throw forbidden("Address already in use");
      }
      return answer(address);
    }
    const free = this.#lowestFree(network.id, pool, subnet);
    if (free === undefined) {
      throw unavailable(`no available IPv4 addresses on this network's address pools: ${network.name}`);
    }
    this.#full.set(network.id, free + 1);
    return answer(free);
  }

  /** The lowest address that may be allocated. */
  #lowestFree(networkId: string, pool: IpamPool, subnet: Cidr): number | undefined {
    const held = this.#held.get(networkId);
    const reserved = reservedOf(pool);
    const range = parseCidr(pool.ipRange) ?? subnet;
    // A subnet of two addresses has neither a network nor a broadcast address (RFC 3021).
    const own = subnet.prefix < 31 ? subnet.base : undefined;
    const broadcast = subnet.prefix < 31 ? subnet.base + sizeOf(subnet) - 1 : undefined;
    const first = Math.max(range.base, this.#full.get(networkId) ?? 0);
    for (let address = first; address < range.base + sizeOf(range); address++) {
      if (address !== own && address !== broadcast && !reserved.has(address) && held?.has(address) !== true) {
        return address;
      }
    }
    return undefined;
  }

  /**
   * The release to wait for before an address is allocated, after which there may be another; undefined if none, or if
   * the address will be refused. Clients that know of a run's end thus find its addresses free, although its interface
   * is removed after the answer.
   *
   * @param wanted as in {@link take}
   */
  pendingRelease(network: Network, wanted: string): Promise<void> | undefined {
    const releasing = this.#releasing.get(network.id);
    if (releasing === undefined) {
      return undefined;
    }
    if (wanted !== "") {
      return releasing.get(parseAddress(wanted) ?? -1);
    }
    const [pool] = network.pools;
    const subnet = parseCidr(pool?.subnet ?? "");
    const isFull =
      pool !== undefined && subnet !== undefined && this.#lowestFree(network.id, pool, subnet) === undefined;
    return isFull ? Promise.race(releasing.values()) : undefined;
  }

  /** Announces that an address will be released, or kept, once a promise settles. */
  announceRelease(networkId: string, address: string, over: Promise<void>): void {
    const number = parseAddress(address);
    if (number === undefined) {
      return;
    }
    const releasing = this.#releasing.get(networkId) ?? new Map<number, Promise<void>>();
    this.#releasing.set(networkId, releasing.set(number, over));
    void over.finally(() => {
      if (releasing.get(number) === over) {
        releasing.delete(number);
      }
      if (releasing.size === 0 && this.#releasing.get(networkId) === releasing) {
        this.#releasing.delete(networkId);
      }
    });
  }

  /** Allocates an address of a running container. */
  hold(networkId: string, address: string): void {
    const number = parseAddress(address);
    if (number !== undefined) {
      this.#hold(networkId, number);
    }
  }

  /** Allocates, for the life of this process, an address of what runs without a record. */
  holdUnknown(networks: Iterable<NetworkRecord>, address: string): void {
    const own = parseCidr(`${address}/32`);
    for (const { network } of networks) {
      const subnet = parseCidr(network?.pools[0]?.subnet ?? "");
      if (network !== undefined && own !== undefined && subnet !== undefined && overlaps(subnet, own)) {
        this.#hold(network.id, own.base);
      }
    }
  }

  /** Frees an address; no error if it is not allocated. */
  release(networkId: string, address: string): void {
    const number = parseAddress(address);
    const held = this.#held.get(networkId);
    if (number !== undefined && held?.delete(number) === true) {
      this.#full.set(networkId, Math.min(number, this.#full.get(networkId) ?? number));
      if (held.size === 0) {
        this.#held.delete(networkId);
        this.#full.delete(networkId); // The network may be gone.
      }
    }
  }

  #hold(networkId: string, address: number): void {
    getOrInsert(this.#held, networkId, () => new Set<number>()).add(address);
  }
}

/** Reserved addresses of a pool: its gateway, and those excluded by its user. */
function reservedOf({ gateway, auxiliaryAddresses }: IpamPool): ReadonlySet<number | undefined> {
  return new Set([gateway, ...Object.values(auxiliaryAddresses)].map(parseAddress));
}
