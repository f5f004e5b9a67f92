import type { CloudAuthority } from "./authority.ts";

/**
 * The name of this instance of sockerless in the cloud. It is the same as long as the authority is, so that what is there is
 * known again by an instance that has lost its state.
 */
export function instanceOf(authority: Pick<CloudAuthority, "pin">): string {
  return `sockerless/${Buffer.from(authority.pin).toString("hex").slice(0, 16)}`;
}
