import type { CloudAuthority } from "./authority.ts";

/**
 * The name of this instance of sockerless in the cloud. It is derived from the authority, so that an instance that has
 * lost its state recognises its resources.
 */
export function instanceOf(authority: Pick<CloudAuthority, "pin">): string {
  return `sockerless/${Buffer.from(authority.pin).toString("hex").slice(0, 16)}`;
}
