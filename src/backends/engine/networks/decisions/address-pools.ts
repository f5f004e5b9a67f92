/** Chooses the addresses of a new network. */
import { invalid } from "../../../../common/errors.ts";
import type { AddressPool } from "../../../driver/networks.ts";
import { type Cidr, parseCidr, sizeOf } from "./cidr.ts";

/** Docker's pools in order of use; the first slice is the default bridge's. */
const dockersPools: readonly AddressPool[] = [
  { base: "172.17.0.0/16", size: 16 },
  { base: "172.18.0.0/15", size: 16 },
  { base: "172.20.0.0/14", size: 16 },
  { base: "172.24.0.0/13", size: 16 },
  { base: "192.168.0.0/16", size: 20 },
];

/** The address pools as in `docker info`. */
export function shownPools(pools: readonly AddressPool[] | undefined): readonly AddressPool[] {
  return (
    pools ?? [
      { base: "172.17.0.0/12", size: 16 },
      { base: "192.168.0.0/16", size: 20 },
    ]
  );
}

/**
 * The first slice of the pools that overlaps nothing in use.
 *
 * @param used CIDR destinations: the host's routes and other networks' subnets; anything but IPv4 is ignored
 * @param pools the driver's; undefined: Docker's
 * @throws invalid: all are in use
 */
export function choosePool(used: readonly string[], pools: readonly AddressPool[] = dockersPools): Cidr {
  const taken = used
    .flatMap((text) => parseCidr(text) ?? [])
    .filter(({ prefix }) => prefix > 0)
    .sort((one, other) => one.base - other.base);
  for (const { base, size } of pools) {
    const pool = parseCidr(base);
    const slice = pool === undefined ? undefined : freeSlice(pool, size, taken);
    if (slice !== undefined) {
      return slice;
    }
  }
  throw invalid("all predefined address pools have been fully subnetted");
}

/** @param taken by their first addresses: one pass over them, however many slices and networks there are */
function freeSlice(pool: Cidr, size: number, taken: readonly Cidr[]): Cidr | undefined {
  const bytes = 2 ** (32 - size);
  let at = pool.base;
  for (const other of taken) {
    if (other.base >= at + bytes) {
      break;
    }
    const end = other.base + sizeOf(other);
    at += Math.max(0, Math.ceil((end - at) / bytes)) * bytes;
  }
  return at + bytes <= pool.base + sizeOf(pool) ? { base: at, prefix: size } : undefined;
}
