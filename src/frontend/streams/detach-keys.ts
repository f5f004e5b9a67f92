/** The keys that detach a client from a terminal without stopping the process. */
import { invalid } from "../../common/errors.ts";

/** ctrl-p, ctrl-q. */
export const defaultDetachKeys: Uint8Array = Uint8Array.of(0x10, 0x11);

/** The characters that can follow `ctrl-`, in the order of their control codes 0 to 31. */
const controlCharacters = "@abcdefghijklmnopqrstuvwxyz[\\]^_";

/** Maximum characters of keys in Docker's notation: the thread that serves everybody reads them, at each inspect of an exec. */
const maxCharacters = 1_024;

/**
 * Reads Docker's notation: single characters, `ctrl-` and one of `@`, a to z, `[`, `\`, `]`, `^`, `_`, or `DEL`,
 * separated by commas.
 *
 * @returns undefined for any other notation, and for a longer text
 */
export function parseDetachKeys(text: string): Uint8Array | undefined {
  if (text.length > maxCharacters) {
    return undefined;
  }
  const codes: number[] = [];
  for (const key of text.split(",")) {
    const bytes = Buffer.from(key);
    const control =
      key.startsWith("ctrl-") && key.length === 6 ? controlCharacters.indexOf(key.slice(5)) : -1;
    if (bytes.length === 1) {
      codes.push(...bytes);
    } else if (control >= 0) {
      codes.push(control);
    } else if (key === "DEL") {
      codes.push(0x7f);
    } else {
      return undefined;
    }
  }
  return Uint8Array.from(codes);
}

/**
 * The detach keys of one attachment.
 *
 * @param text the client's setting; empty: the default
 * @throws SockerlessError of kind `invalid` in dockerd's words
 */
export function detachKeysOf(text: string): Uint8Array {
  if (text === "") {
    return defaultDetachKeys;
  }
  const keys = parseDetachKeys(text);
  if (keys === undefined) {
    throw invalid(`Invalid detach keys (${text}) provided`);
  }
  return keys;
}

/** The result of one chunk of input. */
export interface ScannedInput {
  /** Bytes that go to the process, in order. */
  readonly pass: readonly Uint8Array[];
  /** True if the keys were typed; input after them is dropped. */
  readonly detached: boolean;
}

/**
 * Detects the keys in terminal input, across chunk borders. As in dockerd, bytes that may begin the keys are held back
 * until the next byte decides, and a byte that breaks the match cannot begin a new one.
 */
export class DetachScanner {
  readonly #keys: Uint8Array;
  #matched = 0;

  constructor(keys: Uint8Array) {
    this.#keys = keys;
  }

  /** Takes the next chunk of input. */
  scan(chunk: Uint8Array): ScannedInput {
    const pass: Uint8Array[] = [];
    const heldBefore = this.#matched;
    /** Index of the first byte of the current match; negative if in an earlier chunk. */
    let matchStart = -heldBefore;
    for (let index = 0; index < chunk.length; index++) {
      if (chunk[index] !== this.#keys[this.#matched]) {
        this.#matched = 0;
        matchStart = index + 1;
        continue;
      }
      this.#matched++;
      if (this.#matched === this.#keys.length) {
        this.#matched = 0;
        this.#append(pass, chunk, heldBefore, matchStart);
        return { pass, detached: true };
      }
    }
    this.#append(pass, chunk, heldBefore, matchStart);
    return { pass, detached: false };
  }

  /** Adds the input before the current match: bytes held back earlier that did not match, and bytes of the chunk. */
  #append(pass: Uint8Array[], chunk: Uint8Array, heldBefore: number, matchStart: number): void {
    if (heldBefore > 0 && matchStart > -heldBefore) {
      pass.push(this.#keys.slice(0, heldBefore));
    }
    if (matchStart > 0) {
      pass.push(chunk.subarray(0, matchStart));
    }
  }
}
