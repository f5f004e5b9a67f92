import type { AddressPool } from "../driver/networks.ts";

/** Addresses of a cloud's networks are virtual: /24 slices, enough for any number of networks in use. */
export const addressPools: readonly AddressPool[] = [
  { base: "172.17.0.0/16", size: 16 },
  { base: "172.18.0.0/15", size: 24 },
  { base: "172.20.0.0/14", size: 24 },
  { base: "172.24.0.0/13", size: 24 },
  { base: "192.168.0.0/16", size: 24 },
];
