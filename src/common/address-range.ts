/** Address ranges in CIDR notation: `192.168.1.0/24`, `fd00::/8`. */
import { BlockList, isIP, isIPv4 } from "node:net";

/** True for a range of addresses; false for a host. */
export function isAddressRange(text: string): boolean {
  const [address = "", bits = "", ...rest] = text.split("/");
  const most = { 4: 32, 6: 128 }[isIP(address)];
  return rest.length === 0 && /^\d{1,3}$/.test(bits) && most !== undefined && Number(bits) <= most;
}

/** True if an address is in a range; always false for a name, and for a text that is not a range. */
export function isInRange(range: string, address: string): boolean {
  if (!isAddressRange(range) || isIP(address) === 0) {
    return false;
  }
  const [network = "", bits] = range.split("/");
  const list = new BlockList();
  list.addSubnet(network, Number(bits), isIPv4(network) ? "ipv4" : "ipv6");
  return list.check(address, isIPv4(address) ? "ipv4" : "ipv6");
}
