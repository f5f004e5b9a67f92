/** A bound on what is held together: of what is too heavy the oldest gives way. */

/** A map whose entries have a weight each, the oldest first. */
export class WeightedMap<Key, Value = void> {
  readonly #entries = new Map<Key, { readonly weight: number; readonly value: Value }>();
  readonly #mostWeight: number;
  readonly #mostEntries: number;
  readonly #gaveWay: (key: Key) => void;
  #weight = 0;

  /**
   * @param mostWeight of all entries together
   * @param gaveWay called with each entry that has given way, when it is removed
   */
  constructor(
    mostWeight: number,
    gaveWay: (key: Key) => void = () => {},
    mostEntries = Number.POSITIVE_INFINITY,
  ) {
    this.#mostWeight = mostWeight;
    this.#mostEntries = mostEntries;
    this.#gaveWay = gaveWay;
  }

  has(key: Key): boolean {
    return this.#entries.has(key);
  }

  /** The value of an entry, which is the youngest from now on. */
  get(key: Key): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
    }
    return entry?.value;
  }

  /** Sets an entry, which keeps its age if it is there; gives way itself if it is the oldest, or alone too heavy. */
  set(key: Key, weight: number, value: Value): void {
    this.#weight += weight - (this.#entries.get(key)?.weight ?? 0);
    this.#entries.set(key, { weight, value });
    for (const oldest of this.#entries.keys()) {
      if (this.#weight <= this.#mostWeight && this.#entries.size <= this.#mostEntries) {
        return;
      }
      this.delete(oldest);
      this.#gaveWay(oldest);
    }
  }

  delete(key: Key): void {
    this.#weight -= this.#entries.get(key)?.weight ?? 0;
    this.#entries.delete(key);
  }
}
