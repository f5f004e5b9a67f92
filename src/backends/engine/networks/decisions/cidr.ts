/** IPv4 addresses and networks as numbers. */

/** A network: all addresses with the first `prefix` bits of `base`. */
export interface Cidr {
  readonly base: number;
  readonly prefix: number;
}

/** @returns undefined if the text is not an IPv4 address */
export function parseAddress(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)) {
    return undefined;
  }
  return parts.reduce((address, part) => address * 256 + Number(part), 0);
}

/** @returns undefined if the text is not `address/prefix`; a bare address is a network of one */
export function parseCidr(text: string): Cidr | undefined {
  const [addressText = "", prefixText = "32", ...rest] = text.split("/");
  const address = parseAddress(addressText);
  const prefix = /^\d{1,2}$/.test(prefixText) ? Number(prefixText) : 33;
  if (address === undefined || prefix > 32 || rest.length > 0) {
    return undefined;
  }
  const size = sizeOf({ base: address, prefix });
  return { base: address - (address % size), prefix };
}

/** Number of addresses in a network. */
export function sizeOf({ prefix }: Cidr): number {
  return 2 ** (32 - prefix);
}

/** Whether two networks overlap. */
export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.base < b.base + sizeOf(b) && b.base < a.base + sizeOf(a);
}

/** An address in dotted notation. */
export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}

/** A network in CIDR notation. */
export function formatCidr(cidr: Cidr): string {
  return `${formatAddress(cidr.base)}/${cidr.prefix}`;
}
