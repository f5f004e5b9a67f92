/**
 * The generations of a backend's state, in a file beside its unix socket: two numbers of 8 bytes, little-endian. The first is
 * another after each change, the second after each but those by which execs only come to be, begin and end. A frontend on the
 * same machine looks there, without a call, whether an answer that it holds is still the one that the backend would give
 * (docs/adr/0098-answers-are-held-by-generation.md).
 */

/** Length of each number in bytes. */
export const generationBytes = 8;

/** Bytes before each number. */
export const generationOffsets = { all: 0, allButExecs: generationBytes } as const;

/** No answer may be held. */
export const noGeneration = 0n;

/** Path of the file of a backend at `unix:///path`; undefined: it is on TCP, and has none. */
export function generationPathOf(address: string): string | undefined {
  const scheme = "unix://";
  return address.startsWith(scheme) ? `${address.slice(scheme.length)}.generation` : undefined;
}
