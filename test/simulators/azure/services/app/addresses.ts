/** Addresses of replicas. */
import { addressText, parseCidr, sizeOf } from "../../../common/machine/cidr.ts";

/** Addresses below these are the machine's, the resolver's and their like. */
const firstAddress = 16;

/** Gives addresses of a range, none to two at once, and none again soon. */
export class Addresses {
  readonly #base: number;
  readonly #size: number;
  readonly #taken = new Set<number>();
  #next = firstAddress;

  constructor(cidr: string) {
    const range = parseCidr(cidr);
    this.#base = range.base;
    this.#size = sizeOf(range);
  }

  /** @throws Error when all are taken */
  take(): string {
    for (let tried = firstAddress; tried < this.#size - 1; tried += 1) {
      const offset = this.#next;
      this.#next = offset + 1 < this.#size - 1 ? offset + 1 : firstAddress;
      if (!this.#taken.has(offset)) {
        this.#taken.add(offset);
        return addressText(this.#base + offset);
      }
    }
    throw new Error("the environment has no address left");
  }

  giveBack(address: string): void {
    this.#taken.delete(parseCidr(`${address}/32`).base - this.#base);
  }
}
