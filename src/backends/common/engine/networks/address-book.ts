/** Addresses of the networks that are in use. */
import { forbidden, invalid, unavailable } from "../../../../common/errors.ts";
import type { Network } from "../../../../gen/sockerless/backend/v1/network_pb.ts";
import { formatAddress, parseAddress, parseCidr, sizeOf } from "./decisions/cidr.ts";

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
    const range = parseCidr(pool.ipRange) ?? subnet;
    const held = this.#heldOf(network.id);
    const reserved = new Set([pool.gateway, ...Object.values(pool.auxiliaryAddresses)].map(parseAddress));
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
      if (reserved.has(address) || held.has(address)) {
        throw forbidden("Address already in use");
      }
      return answer(address);
    }
    // A subnet of two addresses has neither a network's own nor one for broadcasts (RFC 3021).
    const own = subnet.prefix < 31 ? subnet.base : undefined;
    const broadcast = subnet.prefix < 31 ? subnet.base + sizeOf(subnet) - 1 : undefined;
    const first = Math.max(range.base, this.#full.get(network.id) ?? 0);
    for (let address = first; address < range.base + sizeOf(range); address++) {
      if (address !== own && address !== broadcast && !reserved.has(address) && !held.has(address)) {
        this.#full.set(network.id, address + 1);
        return answer(address);
      }
    }
    throw unavailable(`no available IPv4 addresses on this network's address pools: ${network.name}`);
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
