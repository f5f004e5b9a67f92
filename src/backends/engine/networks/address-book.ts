/** Addresses of the networks that are in use. */
import { forbidden, invalid, unavailable } from "../../../common/errors.ts";
import type { IpamPool, Network } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { type Cidr, formatAddress, parseAddress, parseCidr, sizeOf } from "./decisions/cidr.ts";

/** Addresses that a container holds on one network. */
export interface HeldAddress {
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string;
}

/**
 * The addresses of every network that are held. Held in memory: at its start the engine takes again those of the
 * containers that run. An address is let go only when its interface is gone, since the kernel answers for it till then.
 */
export class AddressBook {
  readonly #held = new Map<string, Set<number>>();
  /** By network: every address below is held, or never given away. */
  readonly #full = new Map<string, number>();
  /** By network: when the addresses of runs that have ended are released, or kept after all. */
  readonly #releasing = new Map<string, Map<number, Promise<void>>>();

  /**
   * Takes the address that was asked for, or the lowest that is free.
   *
   * @returns undefined where the network has no addresses (`host`, `none`)
   * @throws invalid: not of this network; forbidden: taken; unavailable: none is free
   */
  take(network: Network, wanted: string): HeldAddress | undefined {
    const [pool] = network.pools;
    const subnet = parseCidr(pool?.subnet ?? "");
    if (pool === undefined || subnet === undefined) {
      return undefined;
    }
    const held = this.#heldOf(network.id);
    const answer = (address: number): HeldAddress => {
      held.add(address);
      const gateway = network.internal ? "" : pool.gateway; // An internal network leads nowhere.
      return { address: formatAddress(address), prefixLength: subnet.prefix, gateway };
    };
    if (wanted !== "") {
      const address = parseAddress(wanted);
      if (address === undefined || address < subnet.base || address >= subnet.base + sizeOf(subnet)) {
        throw invalid(`no configured subnet contains IP address ${wanted}`);
      }
      if (reservedOf(pool).has(address) || held.has(address)) {
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

  /** The lowest address that may be given to anybody. */
  #lowestFree(networkId: string, pool: IpamPool, subnet: Cidr): number | undefined {
    const held = this.#heldOf(networkId);
    const reserved = reservedOf(pool);
    const range = parseCidr(pool.ipRange) ?? subnet;
    // A subnet of two addresses has neither a network's own nor one for broadcasts (RFC 3021).
    const own = subnet.prefix < 31 ? subnet.base : undefined;
    const broadcast = subnet.prefix < 31 ? subnet.base + sizeOf(subnet) - 1 : undefined;
    const first = Math.max(range.base, this.#full.get(networkId) ?? 0);
    for (let address = first; address < range.base + sizeOf(range); address++) {
      if (address !== own && address !== broadcast && !reserved.has(address) && !held.has(address)) {
        return address;
      }
    }
    return undefined;
  }

  /**
   * The release to wait for before an address is taken, after which there may be another; undefined: none, also where the
   * address is refused. Clients that were told of a run's end find its addresses free, though its network is taken away
   * behind that answer.
   *
   * @param wanted as for {@link take}
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

  /** Announces that an address is released, or kept after all, by when something is over. */
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

  /** Takes an address that a running container has. */
  hold(networkId: string, address: string): void {
    const number = parseAddress(address);
    if (number !== undefined) {
      this.#heldOf(networkId).add(number);
    }
  }

  /** Lets an address go; one that is not held is no error. */
  release(networkId: string, address: string): void {
    const number = parseAddress(address);
    if (number !== undefined && this.#held.get(networkId)?.delete(number) === true) {
      this.#full.set(networkId, Math.min(number, this.#full.get(networkId) ?? number));
    }
  }

  #heldOf(networkId: string): Set<number> {
    const held = this.#held.get(networkId) ?? new Set<number>();
    this.#held.set(networkId, held);
    return held;
  }
}

/** Addresses of a pool that are given away only to those who have them already: its gateway's, and what its user has set aside. */
function reservedOf({ gateway, auxiliaryAddresses }: IpamPool): ReadonlySet<number | undefined> {
  return new Set([gateway, ...Object.values(auxiliaryAddresses)].map(parseAddress));
}
