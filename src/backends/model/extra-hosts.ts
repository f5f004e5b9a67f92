/** An extra host of a container (`--add-host`). */
export interface ExtraHost {
  /** Empty if the entry has none. */
  readonly name: string;
  /** `host-gateway`, or an IP address without brackets. */
  readonly address: string;
}

/** Reads `name:address`; the address may be IPv6 in brackets, or `host-gateway`. */
export function parseExtraHost(entry: string): ExtraHost {
  const [, name = "", address = ""] = /^([^:]*):(.*)$/s.exec(entry) ?? [];
  return { name, address: address.replace(/^\[(.*)\]$/, "$1") };
}
