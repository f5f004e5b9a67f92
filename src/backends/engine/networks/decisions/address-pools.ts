/** Chooses the addresses of a new network. */
import { invalid } from "../../../../common/errors.ts";
import type { AddressPool } from "../../../driver/networks.ts";
import { type Cidr, overlaps, parseCidr, sizeOf } from "./cidr.ts";

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
  const taken = used.map(parseCidr).filter((cidr) => cidr !== undefined && cidr.prefix > 0) as Cidr[];
  for (const slice of slicesOf(pools)) {
    if (!taken.some((other) => overlaps(slice, other))) {
      return slice;
    }
  }
  throw invalid("all predefined address pools have been fully subnetted");
}

function* slicesOf(pools: readonly AddressPool[]): Generator<Cidr> {
  for (const { base, size } of pools) {
    const pool = parseCidr(base);
    const slice = 2 ** (32 - size);
    for (
      let at = pool?.base ?? 0, end = at + (pool === undefined ? 0 : sizeOf(pool));
      at < end;
      at += slice
    ) {
      yield { base: at, prefix: size };
    }
  }
}
